"""Parts: one self-describing Parquet file each.

A part's columns are those of `tasks.adapters.rows.row_schema.part_schema`. Vectors are `list<float32>` (importers of
Milvus before 2.4 refuse fixed-size lists) in PLAIN encoding (they refuse BYTE_STREAM_SPLIT), compressed with zstd. Sparse vectors are a
struct of two lists (format 3, `tasks.adapters.rows.vectors.sparse_vectors`).
The key `kitestring` of the file's metadata has `PartMeta` as JSON, so that a run can adopt a
finished part of an earlier, unsealed attempt. Pages have checksums for the same reason.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from tasks.adapters.object_store.os_errors import disk_error
from tasks.adapters.rows.row_lengths import unpacked_lengths, without_lengths
from tasks.adapters.rows.vectors.sparse_vectors import is_sparse, sparse_column, sparse_rows
from tasks.domain.errors import Newer, Permanent
from tasks.domain.shards.seal import EncodeStats, Part, Quarantined
from tasks.domain.strict import ADDED_LATER, Growing
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.fields import ScalarField

META = b"kitestring"
LENGTHS_META = b"kitestring.lengths"  # lengths of the rows, if the encoder counts tokens: see `tasks.adapters.rows.row_lengths`
READS = 3  # the newest format of a part
_FORMAT = re.compile(rb'\{"format_version": ?(\d{1,9})[,}]')
MOST_VALUES = 2**31 - 1  # of a list<float32> array, whose offsets have 32 bits


class PartMeta(Growing):
    """The metadata of a part."""

    format_version: Literal[1, 2, 3] = 2  # 3: sparse vectors
    shard: str
    first: int = Field(ge=0, description="Source row in the shard.")
    stop: int
    quarantined: tuple[Quarantined, ...] = Field((), description="Rows that the encoder could not embed.")
    stats: EncodeStats = EncodeStats()
    reused: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Rows whose vectors were taken over.")
    documents: Annotated[int | None, ADDED_LATER] = Field(None, ge=0, description="Documents that begin in it, where its rows are chunks.")


def documents_in(table: pa.Table, fields: Iterable[ScalarField]) -> int | None:
    """Count the documents that begin in these rows; None if the rows are not chunks."""
    return pc.sum(pc.equal(table.column("chunk"), 0)).as_py() or 0 if has_chunks(fields) else None


def write_part(path: Path, table: pa.Table, meta: PartMeta) -> None:
    """Write a part file. Columns other than `id` and `vector` use dictionaries; lengths go to the metadata, not to a column.

    Raises:
        Permanent: the disk is full (names path and remedy), or the file cannot be written.
    """
    table, lengths = without_lengths(table)
    dictionary_columns = [name for name in table.column_names if name not in ("id", "vector")]
    sparse = "vector" in table.column_names and pa.types.is_struct(table.schema.field("vector").type)
    versioned = meta.model_copy(update={"format_version": 3}) if sparse else meta
    numbers = ("vector.indices.list.element", "vector.values.list.element") if sparse else ("vector.list.element",)
    described = table.replace_schema_metadata({META: versioned.model_dump_json().encode(), **({LENGTHS_META: lengths} if lengths else {})})
    try:
        pq.write_table(
            described,
            path,
            compression="zstd",
            use_dictionary=dictionary_columns,
            column_encoding={"id": "PLAIN", **dict.fromkeys(numbers, "PLAIN")},
            write_statistics=dictionary_columns,
            write_page_checksum=True,
        )
    except OSError as error:
        raise disk_error(error, path) from error


def read_part(data: bytes, key: str = "part") -> tuple[pa.Table, PartMeta]:
    """Read a part's rows and metadata, verifying page checksums. `lengths_in` extracts lengths from the table.

    Raises:
        Permanent: it is not a part, or damaged; names the key.
        Newer: a newer version wrote it; names the key.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        described = file.schema_arrow.metadata or {}
        meta = PartMeta.model_validate_json(described.get(META, b""))
        kept = {name: described[name] for name in (LENGTHS_META,) if name in described}
        table = file.read().replace_schema_metadata(kept or None)
    except (pa.ArrowException, OSError) as error:
        raise Permanent(f"{key}: not a Parquet file, or damaged: {_line(error)}") from error
    except ValidationError as error:
        newer = _FORMAT.match((file.schema_arrow.metadata or {}).get(META, b""))
        if newer and int(newer[1]) > READS:
            raise Newer(
                f"{key}: written by a newer Kitestring (format {int(newer[1])}; this version reads up to {READS}): upgrade"
            ) from error
        raise Permanent(f"{key}: a Parquet file, but not a part of Kitestring's") from error
    if "vector" not in table.column_names or "id" not in table.column_names:
        raise Permanent(f"{key}: a part without the columns id and vector")
    return table, meta


def part_of(key: str, data: bytes | Path, table: pa.Table, meta: PartMeta) -> Part:
    """Return a seal's record of a part with this content (bytes or a file) under this key."""
    return Part(
        key=key,
        first=meta.first,
        stop=meta.stop,
        rows=table.num_rows,
        bytes=data.stat().st_size if isinstance(data, Path) else len(data),
        sha256=sha256_of_part(data),
        quarantined=meta.quarantined,
        stats=meta.stats,
        reused=meta.reused,
        documents=meta.documents,
    )


def sha256_of_part(data: bytes | Path) -> str:
    """Return the SHA-256 of a part's bytes, 64 hexadecimal digits; a file is not read into memory."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest()
    try:
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, data) from error


def vector_column(array: np.ndarray) -> pa.Array:
    """Convert (rows, dim) vectors to a column that shares the memory of a contiguous float32 array; or sparse vectors.

    Raises:
        Permanent: more than 2^31 - 1 values, the limit of such a column.
    """
    if is_sparse(array):
        return sparse_column(array)
    rows, dim = array.shape
    if array.size > MOST_VALUES:
        raise Permanent(f"{rows} vectors of {dim} dimensions are too many for one part: set compute.unsaved_rows lower")
    offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(dim)
    values = pa.array(np.ascontiguousarray(array, dtype=np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def lengths_in(table: pa.Table) -> np.ndarray | None:
    """Return the lengths of a part from `read_part`: int32 of shape (rows, 2), -1 if unknown; None without lengths for these rows."""
    packed = (table.schema.metadata or {}).get(LENGTHS_META)
    return unpacked_lengths(packed, table.num_rows) if packed else None


def part_vectors(table: pa.Table) -> np.ndarray:
    """Return the vectors: float32 of shape (rows, dim), read-only, sharing the memory of a contiguous table; sparse ones as packed rows.

    An empty table gives shape (0, 0): its dimension is unknown.

    Raises:
        Permanent: a vector is missing, holds a null, or is of another length than the rest.
    """
    column = table.column("vector")
    if pa.types.is_struct(column.type):
        return sparse_rows(column)
    if table.num_rows == 0:
        return np.empty((0, 0), np.float32)
    array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    values = array.flatten()
    lengths = np.diff(array.offsets.to_numpy())
    if array.null_count or values.null_count or not pa.types.is_float32(values.type) or np.any(lengths != lengths[0]):
        raise Permanent("vectors of a part are missing, or differ in length")
    vectors: np.ndarray = values.to_numpy(zero_copy_only=True).reshape(table.num_rows, int(lengths[0]))
    return vectors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
