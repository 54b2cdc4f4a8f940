"""The in-memory twin of a Milvus server; its contents live as long as the process."""

from __future__ import annotations

from tasks.adapters.targets.memory_bulk_loader import MemoryBulkLoader
from tasks.adapters.targets.memory_collection import MemoryCollection, memory_servers
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.target import MemorySettings
from tasks.domain.target.collection import CollectionSpec


class MemoryTarget:
    """See `tasks.domain.ports.Target` for the contract. Opening the same URI again returns the same contents."""

    def __init__(self, uri: str) -> None:
        self.address, self.overcounts = uri, False
        self._server = memory_servers[uri]

    def reach(self, alias: str) -> None:
        if alias in self._server.specs:
            raise BadInput(f"target.collection '{alias}' at {self.address} is a collection: choose another target.collection, or drop it")

    def check(self, spec: CollectionSpec) -> None:
        """Accepts every spec."""

    def collection(self, name: str) -> MemoryCollection:
        return MemoryCollection(self, self._server, name)

    def names(self) -> list[str]:
        return list(self._server.specs)

    def drop(self, name: str) -> bool:
        with self._server.lock:
            if name in self._server.aliases.values() or name not in self._server.specs:
                return False
            del self._server.specs[name], self._server.identities[name]
            self._server.rows.pop(name, None)
            return True

    def resolve(self, alias: str) -> str | None:
        return self._server.aliases.get(alias)

    def point(self, alias: str, collection: str) -> None:
        with self._server.lock:
            self.reach(alias)
            if collection not in self._server.specs:
                raise Permanent(f"pointing alias '{alias}' to '{collection}' at {self.address}: there is no such collection")
            self._server.aliases[alias] = collection

    def bulk_loader(self) -> MemoryBulkLoader:
        return MemoryBulkLoader(self._server, self.address, self.collection)

    def close(self) -> None:
        """Nothing to close."""


def open_memory(settings: MemorySettings, _token: str | None, _secret: object) -> MemoryTarget:
    """The target that a job's settings name."""
    return MemoryTarget(settings.uri)
