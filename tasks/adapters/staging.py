"""Sealed parts where a Milvus server can read them, in the form that its importer takes."""

from __future__ import annotations

import tempfile
from collections.abc import Collection as Names
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.disk import writing
from tasks.adapters.milvus_columns import Columns, cut_texts, fit_fields
from tasks.domain.ports import Store

FILE_BYTES = 256 * 2**20  # a server takes a task up every few seconds, whatever its size; Milvus takes files of 1 GB and more


class Staging:
    """A folder of the server's machine, or a prefix in a bucket that the server reads.

    Parts are put together into few large files: one is being written in private scratch while those before are staged.

    Args:
        store: opened at `target.staging`.
        prefix: below it, this attempt's own.
        whole_urls: the server wants s3://bucket/key rather than the key in its bucket.
    """

    def __init__(self, store: Store, prefix: str, *, whole_urls: bool, file_bytes: int = FILE_BYTES) -> None:
        self._store, self._prefix, self._whole_urls = store, prefix.rstrip("/") + "/", whole_urls
        self._file_bytes = file_bytes
        self._scratch = tempfile.TemporaryDirectory(prefix="kitestring-staging-")
        self._path = Path(self._scratch.name) / "file.parquet"
        self._writer: pq.ParquetWriter | None = None
        self._bytes = 0
        self._files: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()
        self._scratch.cleanup()

    def add(self, part: pa.Table, columns: Columns, nullable: Names[str]) -> int:
        """Take a part; how many of its texts were cut to fit."""
        fitted, cut = cut_texts(part.select(list(columns)), columns)
        fitted = fit_fields(fitted, columns, nullable)
        with writing(self._path):
            if self._writer is None:
                # Importers before 2.4 refuse fixed-size lists and BYTE_STREAM_SPLIT.
                self._writer = pq.ParquetWriter(self._path, fitted.schema, compression="zstd", use_dictionary=False)
            self._writer.write_table(fitted)
        self._bytes += fitted.nbytes
        if self._bytes >= self._file_bytes:
            self._stage()
        return cut

    def files(self) -> list[str]:
        """Stage the rest; where the server finds each file."""
        if self._writer is not None:
            self._stage()
        return self._files

    def _stage(self) -> None:
        assert self._writer is not None
        with writing(self._path):
            self._writer.close()
        self._writer, self._bytes = None, 0
        key = f"{self._prefix}{len(self._files):06d}.parquet"
        self._store.write(key, self._path)
        self._files.append(self._as_the_server_has_it(key))

    def _as_the_server_has_it(self, key: str) -> str:
        whole = f"{self._store.url}/{key}"
        if "://" not in whole or self._whole_urls:
            return whole
        return urlsplit(whole).path.lstrip("/")


def clear(store: Store, prefix: str) -> None:
    """Remove what an attempt has staged."""
    store.delete_many([found.key for found in store.list(prefix.rstrip("/") + "/")])
