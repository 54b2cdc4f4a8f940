"""Milvus Lite, a Milvus server and Zilliz Cloud behind one `Target`, through pymilvus' MilvusClient."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

from pymilvus.exceptions import MilvusException

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus import lite
from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.milvus_bulk_loader import MilvusBulkLoader
from tasks.adapters.milvus.milvus_collection import UPSERT_BYTES, UPSERT_ROWS, MilvusCollection
from tasks.adapters.milvus.server_errors import ALIAS_NOT_FOUND, COLLECTION_NOT_FOUND, milvus_code
from tasks.adapters.milvus.transport.certificates import Certificates, read_certificates
from tasks.adapters.milvus.vector_index import check_analyzer, server_of
from tasks.domain.errors import BadInput
from tasks.domain.job.credentials import ReadSecret
from tasks.domain.job.index import Parameters
from tasks.domain.job.target import MilvusSettings
from tasks.domain.target.collection import CollectionSpec, check_server


class MilvusTarget:
    """One server or file, with one connection for all its collections. See `tasks.domain.ports.Target` for the contract."""

    def __init__(
        self,
        uri: str,
        *,
        database: str = "",
        token: str | None = None,
        patience: RetryPolicy | None = None,
        search_params: Parameters | None = None,
        staging: str = "",
        batch_rows: int = UPSERT_ROWS,
        batch_bytes: int = UPSERT_BYTES,
        columns: bool = True,
        certificates: Certificates | None = None,
    ) -> None:
        """`columns=False` sends row dicts through the public API, which is slower and independent of pymilvus' internals."""
        self._connection = Connection(
            uri,
            database=database,
            token=token,
            patience=patience or RetryPolicy(what="milvus"),
            certificates=certificates or Certificates(),
        )
        self._call, self._token, self._staging = self._connection.call, token, staging
        self._search_params, self._batch = search_params or {}, {"most_rows": batch_rows, "most_bytes": batch_bytes}
        self._columns = columns

    @property
    def address(self) -> str:
        return self._connection.at.name

    @property
    def overcounts(self) -> bool:
        return not self._connection.lite

    def reach(self, alias: str) -> None:
        if self._connection.absent:
            lite.check_folder(self._connection.uri, self.address)
        else:
            self._refuse_collection(alias)

    def check(self, spec: CollectionSpec) -> None:
        check_server(spec, server_of(self._connection))
        if spec.full_text:
            check_analyzer(self._connection, spec.full_text)

    def collection(self, name: str) -> MilvusCollection:
        return MilvusCollection(self, self._connection, name, search_params=self._search_params, batch=self._batch, columns=self._columns)

    def bulk_loader(self) -> MilvusBulkLoader:
        return MilvusBulkLoader(self._connection, self.collection, token=self._token, staging=self._staging)

    def close(self) -> None:
        self._connection.close()

    # ---- collections ----

    def names(self) -> list[str]:
        def look() -> list[str]:
            return [] if self._connection.absent else list(self._connection.client.list_collections(timeout=CALL_SECONDS))

        return self._call(look, "listing collections")

    def drop(self, name: str) -> bool:
        """Check for aliases first: 2.3.5 silently drops a collection that an alias points to, and searches through the alias then fail."""
        if name not in self.names():
            if self._connection.lite:  # remains of an interrupted drop still take space
                self._call(partial(lite.make_room, *self._place_of(name)), f"removing the remains of '{name}'")
            return False
        if self._aliases_of(name):
            return False
        self._call(partial(self._drop, name), f"dropping '{name}'", writes=True)
        return True

    def _drop(self, name: str) -> None:
        with lite.dropping(*self._place_of(name)) if self._connection.lite else nullcontext():
            self._connection.client.drop_collection(name, timeout=CALL_SECONDS)

    def _place_of(self, name: str) -> tuple[str, str, str]:
        return self._connection.uri, self._connection.database, name

    # ---- aliases ----

    def resolve(self, alias: str) -> str | None:
        return self._call(partial(self._collection_of, alias), f"looking up alias '{alias}'")

    def point(self, alias: str, collection: str) -> None:
        self._refuse_collection(alias)
        self._call(partial(self._point, alias, collection), f"pointing alias '{alias}' to '{collection}'", writes=True)

    def _refuse_collection(self, alias: str) -> None:
        if alias in self.names():
            raise BadInput(
                f"target.collection '{alias}' at {self.address} is a collection, but Kitestring needs the name for an "
                "alias: choose another target.collection, or drop or rename the collection"
            )

    def _aliases_of(self, collection: str) -> list[str]:
        """Every alias that points to a collection."""

        def ask() -> list[str]:
            return list(self._connection.client.list_aliases(collection, timeout=CALL_SECONDS)["aliases"])

        return self._call(ask, f"listing the aliases of '{collection}'")

    def _point(self, alias: str, collection: str) -> None:
        client, now = self._connection.client, self._collection_of(alias)
        if now == collection:
            return
        if now is None:
            try:
                client.create_alias(collection, alias, timeout=CALL_SECONDS)
            except MilvusException:
                if self._collection_of(alias) is None:  # not because another client created it at the same time
                    raise
        if self._collection_of(alias) != collection:
            client.alter_alias(collection, alias, timeout=CALL_SECONDS)

    def _collection_of(self, alias: str) -> str | None:
        if self._connection.absent:
            return None
        try:
            answer = self._connection.client.describe_alias(alias, timeout=CALL_SECONDS)
        except MilvusException as error:
            if milvus_code(error) in (ALIAS_NOT_FOUND, COLLECTION_NOT_FOUND):  # Milvus Lite returns 100
                return None
            raise
        return str(answer["collection_name"])


def open_milvus(settings: MilvusSettings, token: str | None, secret: ReadSecret) -> MilvusTarget:
    """The target that a job's settings name.

    Raises:
        BadInput: a certificate cannot be read.
    """
    certificates = read_certificates(settings.tls, secret)
    options = {"database": settings.database, "token": token, "search_params": settings.search, "staging": settings.staging}
    return MilvusTarget(settings.uri, certificates=certificates, **options)  # type: ignore[arg-type]
