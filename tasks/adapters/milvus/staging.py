"""Sealed parts where a Milvus server can read them, in the form that its importer takes."""

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

FILE_BYTES = 256 * 2**20  # a server takes a task up every few seconds, whatever its size; Milvus takes files of 1 GB and more
UPSERTED = "upsert-"


class Staging:
    """A folder of the server's machine, or a prefix in a bucket that the server reads.

    Parts are put together into few large files: one is being written in private scratch while those before are staged. Rows
    that importers refuse are staged as they are, in files beside those: they are upserted when the import has ended.

    Args:
        store: opened at `target.staging`.
        prefix: below it, this attempt's own.
        scratch: private, of a run.
        columns: the collection's.
        nullable: those of them that may be null.
        whole_urls: the server wants s3://bucket/key rather than the key in its bucket.
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
        """Take a part; how many of its texts were cut to fit."""
        rows, cut = cut_texts(part.select(list(self._columns)), self._columns)
        fitted = fit_fields(rows, self._columns, self._nullable)
        taken = importable(fitted, self._columns)
        self._imported.add(fitted.filter(taken))
        self._upserted.add(rows.filter(pc.invert(taken)))
        return cut

    def files(self) -> list[str]:
        """Stage the rest; where the server finds each file to import."""
        return [self._as_the_server_has_it(key) for key in self._imported.finish()]

    def upserts(self) -> tuple[int, list[str]]:
        """Stage the rest; how many rows are to be upserted, and the keys of their files in the store."""
        keys = self._upserted.finish()
        return self._upserted.rows, keys

    def _as_the_server_has_it(self, key: str) -> str:
        whole = f"{self._store.url}/{key}"
        if "://" not in whole or self._whole_urls:
            return whole
        return urlsplit(whole).path.lstrip("/")


class _Files:
    """Rows in files of some size: the one being written is at `path`, the others at {prefix}{n}.parquet."""

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
        """Write the last, partly filled file; the keys of all staged files."""
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
    """Which rows importers take. They refuse a double that is not finite, including a NaN that replaces a null; upserts accept it.

    Seen on 2.3.5 ("value 'NaN' is not a number or infinity"); in arrays of doubles it takes both.
    """
    taken = pa.chunked_array([pa.repeat(pa.scalar(value=True), rows.num_rows)])
    for name, kind in columns.items():
        if kind == "double":
            taken = pc.and_(taken, pc.is_finite(rows[name]).fill_null(True))
    return taken


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
    """Remove what an attempt has staged."""
    store.delete_many([found.key for found in store.list(prefix.rstrip("/") + "/")])
