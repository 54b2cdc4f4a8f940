"""The in-memory twin of a server-side import: staged files are tables in the server, and a job completes within the call that starts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from tasks.adapters.rows.collection_rows import rows_for
from tasks.adapters.targets.memory_collection import MemoryCollection, MemoryServer
from tasks.domain.errors import Permanent
from tasks.domain.shards.import_attempt import ImportState
from tasks.domain.target.collection import CollectionSpec


class MemoryBulkLoader:
    """See `tasks.domain.shards.bulk_loader.BulkLoader` for the contract. A duplicate key fails the job: Milvus would keep both rows."""

    def __init__(self, server: MemoryServer, at: str, opens: Callable[[str], MemoryCollection]) -> None:
        self._server, self._at, self._opens = server, at, opens

    def check(self) -> None:
        """An import is always possible."""

    def takes(self, spec: CollectionSpec) -> bool:  # noqa: ARG002 - it imports every type of vector
        return True

    def stage(self, collection: str, prefix: str, scratch: Path) -> MemoryStaging:  # noqa: ARG002 - no file is written
        spec = self._opens(collection).describe()
        if spec is None:
            raise Permanent(f"staging files for '{collection}' at {self._at}: there is no such collection")
        return MemoryStaging(self._server, prefix, spec)

    def start(self, collection: str, files: Sequence[str], *, idempotency_key: str) -> list[str]:
        if collection not in self._server.specs:
            raise Permanent(f"importing into '{collection}' at {self._at}: there is no such collection")
        with self._server.lock:
            if idempotency_key not in self._server.jobs:
                self._server.jobs[idempotency_key] = self._imported(self._opens(collection), files)
        return [idempotency_key]

    def _imported(self, filled: MemoryCollection, files: Sequence[str]) -> ImportState:
        missing = [file for file in files if file not in self._server.staged]
        if missing:
            return ImportState(state="failed", reason=f"no such file: {missing[0]}")
        rows = [self._server.staged[file] for file in files]
        keys = [key for table in rows for key in table["id"].to_pylist()]
        twice = _first_twice(keys + filled.fetch(keys)[0])
        if twice is not None:
            return ImportState(state="failed", reason=f"key '{twice}' occurs twice")
        for table in rows:
            filled.upsert(table)
        return ImportState(state="done", percent=100)

    def look(self, job: str) -> ImportState:
        return self._server.jobs.get(job) or ImportState(state="failed", reason=f"no such job: {job}")

    def staged_rows(self, keys: Iterable[str]) -> Iterator[pa.Table]:
        for key in keys:
            if key not in self._server.staged:
                raise Permanent(f"{self._at}/{key}: the staged file is missing")
            yield self._server.staged[key]

    def rename(self, collection: str, to: str) -> None:
        server = self._server
        with server.lock:
            if collection not in server.specs or to in server.specs or to in server.aliases:
                raise Permanent(f"renaming '{collection}' to '{to}' at {self._at}: the one is missing, or the other is taken")
            server.specs[to], server.identities[to] = server.specs.pop(collection), server.identities.pop(collection)
            server.rows[to] = server.rows.pop(collection, {})

    def clear(self, prefix: str) -> None:
        with self._server.lock:
            for key in [key for key in self._server.staged if key.startswith(f"{prefix}/")]:
                del self._server.staged[key]


class MemoryStaging:
    """See `tasks.domain.shards.bulk_loader.StagedFiles` for the contract; stages one file for each part."""

    def __init__(self, server: MemoryServer, prefix: str, spec: CollectionSpec) -> None:
        self._server, self._prefix, self._spec = server, prefix, spec
        self._keys: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Does nothing: there are no temporary files."""

    def add(self, part: pa.Table) -> int:
        rows, cut = rows_for(self._spec, part)
        self._keys.append(f"{self._prefix}/{len(self._keys):06d}")
        self._server.staged[self._keys[-1]] = rows
        return cut

    def files(self) -> list[str]:
        return self._keys

    def upserts(self) -> tuple[int, list[str]]:
        return 0, []


def _first_twice(keys: list[str]) -> str | None:
    return next((key for key, times in Counter(keys).items() if times > 1), None)
