"""Sealed parts where a Milvus server can read them, in the form that its importer takes."""

from __future__ import annotations

import io
from collections.abc import Collection as Names
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.milvus_columns import Columns, cut_texts, fit_fields
from tasks.domain.ports import Store


class Staging:
    """A folder of the server's machine, or a prefix in a bucket that the server reads.

    Args:
        store: opened at `target.staging`.
        prefix: below it, this attempt's own.
        whole_urls: the server wants s3://bucket/key rather than the key in its bucket.
    """

    def __init__(self, store: Store, prefix: str, *, whole_urls: bool) -> None:
        self._store, self._prefix, self._whole_urls = store, prefix.rstrip("/") + "/", whole_urls

    def put(self, number: int, part: pa.Table, columns: Columns, nullable: Names[str]) -> tuple[str, int]:
        """Stage a part; where the server finds it, and how many texts were cut to fit."""
        fitted, cut = cut_texts(part.select(list(columns)), columns)
        buffer = io.BytesIO()
        # Importers before 2.4 refuse fixed-size lists and BYTE_STREAM_SPLIT; no dictionary, since no server reads it faster.
        pq.write_table(fit_fields(fitted, columns, nullable), buffer, compression="zstd", use_dictionary=False)
        key = f"{self._prefix}{number:06d}.parquet"
        self._store.write(key, buffer.getvalue())
        return self._as_the_server_has_it(key), cut

    def _as_the_server_has_it(self, key: str) -> str:
        whole = f"{self._store.url}/{key}"
        if "://" not in whole or self._whole_urls:
            return whole
        return urlsplit(whole).path.lstrip("/")

    def clear(self) -> None:
        """Remove what was staged."""
        for found in list(self._store.list(self._prefix)):
            self._store.delete(found.key)
