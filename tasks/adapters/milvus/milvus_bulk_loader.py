"""Bulk import into a Milvus server or Zilliz Cloud: stages files where the server reads them, and starts and polls import jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.importer import Importer, importer_for
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.staging import Staging, clear, staged_rows
from tasks.adapters.milvus.vector_index import server_of
from tasks.adapters.object_store.registry import open_store
from tasks.domain.errors import BadInput
from tasks.domain.ports import Store
from tasks.domain.shards.import_attempt import ImportState
from tasks.domain.target.collection import CollectionSpec


class MilvusBulkLoader:
    """See `tasks.domain.shards.bulk_loader.BulkLoader` for the contract. `staging`: where the server reads files from; "": not set."""

    def __init__(self, connection: Connection, collection: Callable[[str], MilvusCollection], *, token: str | None, staging: str) -> None:
        self._connection, self._collection, self._token, self._staging = connection, collection, token, staging

    def check(self) -> None:
        _ = self._importer
        if not self._staging:
            raise BadInput(
                "target.load: an import needs target.staging: a folder or s3://bucket/prefix that the Milvus server reads files from"
            )

    def takes(self, spec: CollectionSpec) -> bool:
        return bool(self._staging) and spec.vector_type == "float32" and not spec.sparse

    def stage(self, collection: str, prefix: str, scratch: Path) -> Staging:
        columns, nullable = self._collection(collection).form()
        whole_urls = server_of(self._connection).kind == "Zilliz Cloud"
        return Staging(self._store, prefix, scratch, columns=columns, nullable=nullable, whole_urls=whole_urls)

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        return self._importer.start(collection, files, idempotency_key=idempotency_key)

    def look(self, job: str) -> ImportState:
        return self._importer.look(job)

    def staged_rows(self, keys: Iterable[str]) -> Iterator[pa.Table]:
        return staged_rows(self._store, keys)

    def rename(self, collection: str, to: str) -> None:
        rename = partial(self._connection.client.rename_collection, collection, to, timeout=CALL_SECONDS)
        self._connection.call(rename, f"renaming '{collection}' to '{to}'", writes=True)

    def clear(self, prefix: str) -> None:
        if self._staging:
            clear(self._store, prefix)

    @cached_property
    def _importer(self) -> Importer:
        return importer_for(self._connection, server_of(self._connection), token=self._token, database=self._connection.database)

    @cached_property
    def _store(self) -> Store:
        return open_store(self._staging)
