"""A collection that an import fills, before it takes the place that searches know."""

from __future__ import annotations

from functools import partial
from typing import Any

from tasks.adapters.milvus.connection import CALL_SECONDS
from tasks.adapters.milvus.importer import Importer, importer_for
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.vector_index import server_of
from tasks.adapters.rows.collection_rows import Columns, columns_of
from tasks.domain.errors import Transient
from tasks.domain.job.index import Server

SEEN_SECONDS = 120.0  # between a job's end and the day that strong reads see its rows: 15 s on Milvus 2.3.5
SEEN_PAUSE = 0.5


class BulkCollection(MilvusCollection):
    """One attempt's own collection: nobody else writes into it, so that what is in it is what its jobs put there."""

    def __init__(self, *given: Any, token: str | None, database: str, **how: Any) -> None:
        super().__init__(*given, token=token, database=database, **how)
        self._token, self._database = token, database

    @property
    def server(self) -> Server:
        """What answers at the target."""
        return server_of(self._connection)

    def importer(self) -> Importer:
        """What starts imports there; raises BadInput where nothing does."""
        return importer_for(self._connection, self.server, token=self._token, database=self._database)

    def form(self) -> tuple[Columns, frozenset[str]]:
        """The fields that a file has to have, and those of them that may be null."""
        return columns_of(self._made()), self._nullable

    def await_rows(self, rows: int) -> None:
        """Wait until strong reads see so many rows.

        Raises:
            Transient: they do not, within two minutes.
        """
        patience = self._connection.patience
        deadline = patience.clock() + SEEN_SECONDS
        while (seen := self.count()) != rows:
            if patience.clock() > deadline:
                raise Transient(f"after an import of {rows} rows into '{self.name}' at {self._at}, {seen} can be seen")
            patience.sleep(SEEN_PAUSE)

    def rename(self, to: str) -> None:
        """Take another name; raises Permanent where somebody has it."""
        rename = partial(self._connection.client.rename_collection, self.name, to, timeout=CALL_SECONDS)
        self._call(rename, f"renaming '{self.name}' to '{to}'", writes=True)
