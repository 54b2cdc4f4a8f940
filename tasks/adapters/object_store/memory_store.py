"""An in-memory store that behaves like the real ones, for tests. Lost when the process ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.adapters.object_store.key_rules import checked
from tasks.domain.ports import StoredObject


@dataclass(slots=True)
class _Shelf:
    """The objects of one store name."""

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_shelves: dict[str, _Shelf] = {}


class MemoryStore:
    """A `Store` whose objects all openers of the same name in this process share."""

    def __init__(self, name: str) -> None:
        self.url = f"memory://{name}"
        self._shelf = _shelves.setdefault(name, _Shelf())

    def read(self, key: str) -> bytes | None:
        stored = self._shelf.objects.get(checked(key))
        return stored[0] if stored else None

    def write(self, key: str, data: bytes | Path) -> None:
        self._shelf.objects[checked(key)] = (_bytes_of(data), time.time())

    def commit(self, key: str, data: bytes) -> bool:
        with self._shelf.lock:
            if checked(key) in self._shelf.objects:
                return False
            self._shelf.objects[key] = (bytes(data), time.time())
            return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for key, (data, modified) in list(self._shelf.objects.items()):
            if key.startswith(prefix):
                yield StoredObject(key=key, size=len(data), modified=modified)

    def delete(self, key: str) -> None:
        self._shelf.objects.pop(checked(key), None)

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in [checked(key) for key in keys]:
            self.delete(key)


def _bytes_of(data: bytes | Path) -> bytes:
    return data.read_bytes() if isinstance(data, Path) else bytes(data)
