"""Stages sealed parts where a Milvus server can read them, in the format of its importer."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection as Names
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.adapters.milvus.row_dicts import fit_fields
from tasks.adapters.object_store.os_errors import writing
from tasks.adapters.rows.collection_rows import FieldTypes, cut_texts
from tasks.domain.errors import Permanent
from tasks.domain.ports import Store

FILE_BYTES = 256 * 2**20  # a server starts one task every few seconds, of any size; Milvus accepts files of 1 GB and more
UPSERTED = "upsert-"


class Staging:
    """A folder of the server's machine, or a prefix in a bucket that the server reads.

    Parts are merged into few large files: one is being written in private scratch while earlier ones are staged. Rows
    that importers refuse are staged unchanged, in separate files: they are upserted after the import.

    Args:
        store: opened at `target.staging`.
        prefix: key prefix of this attempt.
        scratch: a private folder of the run.
        columns: the columns of the collection.
        nullable: those of them that may be null.
        whole_urls: whether the server expects s3://bucket/key rather than the key in its bucket.
        file_bytes: size at which a file is complete.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        scratch: Path,
        *,
        columns: FieldTypes,
        nullable: Names[str],
        whole_urls: bool,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._store, self._columns, self._nullable, self._whole_urls = store, columns, nullable, whole_urls
        self._scratch = tempfile.TemporaryDirectory(dir=scratch, prefix="staging-")
        place, folder = prefix.rstrip("/") + "/", Path(self._scratch.name)
        self._imported = _Files(store, place, folder / "import.parquet", file_bytes)
        self._upserted = _Files(store, f"{place}{UPSERTED}", folder / "upsert.parquet", file_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._imported.close()
        self._upserted.close()
        self._scratch.cleanup()

    def add(self, part: pa.Table) -> int:
        """Add a part; return how many of its texts were cut to fit."""
        rows, cut = cut_texts(part.select(list(self._columns)), self._columns)
        fitted = fit_fields(rows, self._columns, self._nullable)
        accepted = importable(fitted, self._columns)
        self._imported.add(fitted.filter(accepted))
        self._upserted.add(rows.filter(pc.invert(accepted)))
        return cut

    def files(self) -> list[str]:
        """Stage the last file; return the location of each import file from the server's point of view."""
        return [self._server_path(key) for key in self._imported.finish()]

    def upserts(self) -> tuple[int, list[str]]:
        """Stage the last file; return how many rows to upsert, and the keys of their files in the store."""
        keys = self._upserted.finish()
        return self._upserted.rows, keys

    def _server_path(self, key: str) -> str:
        whole = f"{self._store.url}/{key}"
        if "://" not in whole or self._whole_urls:
            return whole
        return urlsplit(whole).path.lstrip("/")


class _Files:
    """Rows in files of `file_bytes` bytes: the current one is written at `path`, completed ones are stored as {prefix}{n}.parquet."""

    def __init__(self, store: Store, prefix: str, path: Path, file_bytes: int) -> None:
        self._store, self._prefix, self._path, self._most = store, prefix, path, file_bytes
        self._writer: pq.ParquetWriter | None = None
        self._bytes = self.rows = 0
        self._keys: list[str] = []

    def add(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        with writing(self._path):
            if self._writer is None:
                # Importers before 2.4 refuse fixed-size lists and BYTE_STREAM_SPLIT.
                self._writer = pq.ParquetWriter(self._path, rows.schema, compression="zstd", use_dictionary=False)
            self._writer.write_table(rows)
        self._bytes += rows.nbytes
        self.rows += rows.num_rows
        if self._bytes >= self._most:
            self._stage()

    def finish(self) -> list[str]:
        """Stage the last, partly filled file; return the keys of all staged files."""
        self._stage()
        return self._keys

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _stage(self) -> None:
        if self._writer is None:
            return
        with writing(self._path):
            self._writer.close()
        self._writer, self._bytes = None, 0
        key = f"{self._prefix}{len(self._keys):06d}.parquet"
        self._store.write(key, self._path)
        self._keys.append(key)


def importable(rows: pa.Table, columns: FieldTypes) -> pa.Array:
    """A mask of the rows that importers accept. They refuse a double that is not finite, including a NaN that replaces a null; upserts accept it.

    Seen on 2.3.5 ("value 'NaN' is not a number or infinity"), which accepts both in arrays of doubles.
    """
    accepted = pa.chunked_array([pa.repeat(pa.scalar(value=True), rows.num_rows)])
    for name, kind in columns.items():
        if kind == "double":
            accepted = pc.and_(accepted, pc.is_finite(rows[name]).fill_null(True))
    return accepted


def staged_rows(store: Store, keys: Iterable[str]) -> Iterator[pa.Table]:
    """The rows of staged files, in batches.

    Raises:
        Permanent: a file is missing or damaged.
    """
    for key in keys:
        data = store.read(key)
        if data is None:
            raise Permanent(f"{store.url}/{key}: the staged file is missing")
        try:
            for batch in pq.ParquetFile(io.BytesIO(data)).iter_batches():
                yield pa.Table.from_batches([batch])
        except pa.ArrowException as error:
            raise Permanent(f"{store.url}/{key}: the staged file is damaged: {error}") from error


def clear(store: Store, prefix: str) -> None:
    """Delete all files that an attempt has staged."""
    store.delete_many([stored.key for stored in store.list(prefix.rstrip("/") + "/")])
