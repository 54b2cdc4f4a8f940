"""Parts: one self-describing Parquet file each.

A part's columns are those of `tasks.adapters.rows.row_schema.part_schema`. Vectors stand as `list<float32>` (importers of
Milvus before 2.4 refuse fixed-size lists) in PLAIN encoding (they refuse BYTE_STREAM_SPLIT), zstd around it. Sparse ones are a struct of two
lists (format 3, `tasks.adapters.rows.vectors.sparse_vectors`).
Under the key `kitestring` of the file's metadata stands `PartMeta` as JSON, so that a run which finds a
finished part of an earlier, unsealed attempt can take it over. Pages carry checksums for the same reason.
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
LENGTHS_META = b"kitestring.lengths"  # of the rows, where the encoder counts tokens: see `tasks.adapters.rows.row_lengths`
READS = 3  # the newest format of a part
_FORMAT = re.compile(rb'\{"format_version": ?(\d{1,9})[,}]')
MOST_VALUES = 2**31 - 1  # of one list<float32> array: its offsets are 32 bits


class PartMeta(Growing):
    """What a part says of itself."""

    format_version: Literal[1, 2, 3] = 2  # 3: its vectors are sparse
    shard: str
    first: int = Field(ge=0, description="Source row in the shard.")
    stop: int
    quarantined: tuple[Quarantined, ...] = Field((), description="Rows that the encoder could not embed.")
    stats: EncodeStats = EncodeStats()
    reused: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Rows whose vectors were taken over.")
    documents: Annotated[int | None, ADDED_LATER] = Field(None, ge=0, description="Documents that begin in it, where its rows are chunks.")


def documents_in(table: pa.Table, fields: Iterable[ScalarField]) -> int | None:
    """How many documents begin in rows with these fields; None where they are no chunks."""
    return pc.sum(pc.equal(table.column("chunk"), 0)).as_py() or 0 if has_chunks(fields) else None


def write_part(path: Path, table: pa.Table, meta: PartMeta) -> None:
    """Write a part file; the columns `id` and `vector` are stored as they are, the others may share a dictionary; lengths are no column.

    Raises:
        Permanent: there is no room on the disk (names path and cure), or it cannot be written.
    """
    table, lengths = without_lengths(table)
    shared = [name for name in table.column_names if name not in ("id", "vector")]
    sparse = "vector" in table.column_names and pa.types.is_struct(table.schema.field("vector").type)
    told = meta.model_copy(update={"format_version": 3}) if sparse else meta
    numbers = ("vector.indices.list.element", "vector.values.list.element") if sparse else ("vector.list.element",)
    described = table.replace_schema_metadata({META: told.model_dump_json().encode(), **({LENGTHS_META: lengths} if lengths else {})})
    try:
        pq.write_table(
            described,
            path,
            compression="zstd",
            use_dictionary=shared,
            column_encoding={"id": "PLAIN", **dict.fromkeys(numbers, "PLAIN")},
            write_statistics=shared,
            write_page_checksum=True,
        )
    except OSError as error:
        raise disk_error(error, path) from error


def read_part(data: bytes, key: str = "part") -> tuple[pa.Table, PartMeta]:
    """A part's rows and metadata, checked against the checksums of its pages. `lengths_in` takes lengths from the table.

    Raises:
        Permanent: it is not a part, or not whole; names the key.
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
            raise Newer(f"{key}: written by a newer Kitestring (format {int(newer[1])}, and this one reads {READS}): upgrade") from error
        raise Permanent(f"{key}: a Parquet file, but not a part of Kitestring's") from error
    if "vector" not in table.column_names or "id" not in table.column_names:
        raise Permanent(f"{key}: a part without the columns id and vector")
    return table, meta


def part_of(key: str, data: bytes | Path, table: pa.Table, meta: PartMeta) -> Part:
    """How a seal names a part with this content, which may be in a file, under this key."""
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
    """SHA-256 of a part's bytes, 64 hexadecimal digits; of a file without holding it in memory."""
    if not isinstance(data, Path):
        return hashlib.sha256(data).hexdigest()
    try:
        with data.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise disk_error(error, data) from error


def vector_column(array: np.ndarray) -> pa.Array:
    """The column of (rows, dim) vectors, which shares the memory of a contiguous float32 array; or of sparse ones.

    Raises:
        Permanent: more than 2^31 - 1 values, which no such column holds.
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
    """Of a part that was read: int32 of shape (rows, 2), -1 where nobody knows; None where the part has none, or not these rows'."""
    packed = (table.schema.metadata or {}).get(LENGTHS_META)
    return unpacked_lengths(packed, table.num_rows) if packed else None


def part_vectors(table: pa.Table) -> np.ndarray:
    """The vectors: float32 of shape (rows, dim), read-only; shares the table's memory where it is one piece. Sparse ones: packed rows.

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
        raise Permanent("the vectors of a part are not all there, or not of one length")
    vectors: np.ndarray = values.to_numpy(zero_copy_only=True).reshape(table.num_rows, int(lengths[0]))
    return vectors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
