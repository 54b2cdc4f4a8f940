"""The alias that searches use, and the collection that it leads to."""

from __future__ import annotations

from pymilvus.exceptions import MilvusException

from tasks.adapters.milvus.connection import CALL_SECONDS, Connection
from tasks.adapters.milvus.server_errors import ALIAS_NOT_FOUND, COLLECTION_NOT_FOUND, code_of
from tasks.domain.errors import BadInput


class Alias:
    """One name at a Milvus, whether there is such an alias yet or not."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection, self.name = connection, name

    def target(self) -> str | None:
        """The collection that it leads to, or None."""
        return self._connection.call(self._target, f"looking up alias '{self.name}'")

    def refuse_collection(self) -> None:
        """Whether the name is free for an alias.

        Raises:
            BadInput: it is a collection's.
        """
        names = self._connection.call(lambda: self._connection.client.list_collections(timeout=CALL_SECONDS), "listing collections")
        if self.name in names:
            raise BadInput(
                f"target.collection '{self.name}' at {self._connection.at.name} is a collection, and Kitestring needs the name for an "
                "alias: choose another target.collection, or drop or rename that one"
            )

    def point_to(self, collection: str) -> None:
        """Lead searches there; harmless where they are led there already.

        Raises:
            BadInput: the name is a collection's.
        """
        self.refuse_collection()
        self._connection.call(lambda: self._point(collection), f"pointing alias '{self.name}' to '{collection}'", writes=True)

    def leading_to(self, collection: str) -> list[str]:
        """Every alias that leads to a collection."""

        def ask() -> list[str]:
            return list(self._connection.client.list_aliases(collection, timeout=CALL_SECONDS)["aliases"])

        return self._connection.call(ask, f"listing the aliases of '{collection}'")

    def _point(self, collection: str) -> None:
        client, now = self._connection.client, self._target()
        if now == collection:
            return
        if now is None:
            try:
                client.create_alias(collection, self.name, timeout=CALL_SECONDS)
            except MilvusException:
                if self._target() is None:  # not a race that somebody else won
                    raise
        if self._target() != collection:
            client.alter_alias(collection, self.name, timeout=CALL_SECONDS)

    def _target(self) -> str | None:
        if self._connection.absent:
            return None
        try:
            answer = self._connection.client.describe_alias(self.name, timeout=CALL_SECONDS)
        except MilvusException as error:
            if code_of(error) in (ALIAS_NOT_FOUND, COLLECTION_NOT_FOUND):  # Milvus Lite says 100
                return None
            raise
        return str(answer["collection_name"])
