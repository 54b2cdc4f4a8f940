"""A kind of target that several processes of one machine share: collections are SQLite files in a folder. It cannot be searched."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tasks.adapters.rows.collection_rows import rows_for
from tasks.domain.job.target import TargetKind, TargetSettings
from tasks.domain.target.collection import CollectionSpec, new_identity
from tasks.domain.target.rate_limit import Throttle

TABLES = (
    "create table if not exists made (one integer primary key check (one = 1), identity text, spec text)",
    "create table if not exists rows (id text primary key, shard text, writes integer)",
)


class FileSettings(TargetSettings):
    """Its own is a folder alone."""

    kind: Literal["file"] = "file"
    folder: str

    @property
    def address(self) -> str:
        return self.folder


class FileTarget:
    """What a host asks of a `tasks.domain.ports.Target`."""

    def __init__(self, folder: str) -> None:
        self.address, self.overcounts = folder, False

    def collection(self, name: str) -> FileCollection:
        return FileCollection(self, name)

    def close(self) -> None:
        """Each call has a connection of its own."""


class FileCollection:
    """What a host asks of a `tasks.domain.ports.Collection`, and what a test looks at."""

    def __init__(self, target: FileTarget, name: str) -> None:
        self.target, self.name, self.throttle = target, name, Throttle()
        self._path = Path(target.address) / f"{name}.sqlite"

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
            return database.execute(statement, values).fetchall()

    def identity(self) -> str | None:
        return self._do("select identity from made")[0][0] if self._path.exists() else None

    def ensure(self, spec: CollectionSpec) -> str:
        for table in TABLES:
            self._do(table)
        self._do("insert or ignore into made values (1, ?, ?)", new_identity(), spec.model_dump_json())
        return self.identity() or ""

    def upsert(self, rows: pa.Table) -> int:
        spec = CollectionSpec.model_validate_json(self._do("select spec from made")[0][0])
        sent, cut = rows_for(spec, rows)
        self.throttle.wait(sent.num_rows)
        with closing(sqlite3.connect(self._path, timeout=60)) as database, database:
            pairs = zip(sent["id"].to_pylist(), sent["shard"].to_pylist(), strict=True)
            put = "insert into rows values (?, ?, 1) on conflict (id) do update set shard = excluded.shard, writes = writes + 1"
            database.executemany(put, pairs)
        self.throttle.taken(sent.num_rows)
        return cut

    def writes(self) -> dict[str, int]:
        """How often each key was put."""
        return dict(self._do("select id, writes from rows"))

    def count(self, shard: str | None = None) -> int:
        return len(list(self.keys(shard))) if shard else len(self.writes())

    def keys(self, shard: str) -> Iterator[str]:
        return (key for (key,) in self._do("select id from rows where shard = ?", shard))


def open_file(settings: FileSettings, _token: str | None, _secret: object) -> FileTarget:
    """The target that a job's settings name."""
    return FileTarget(settings.folder)


KIND = TargetKind(settings=FileSettings, opens="tests.builders.engines.file_target:open_file")
