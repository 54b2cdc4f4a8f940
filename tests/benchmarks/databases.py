"""What a Prefect server of a benchmark keeps its runs in: SQLite, or a real PostgreSQL; and how much of what is in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.watch import MEBI
from tests.servers.milvus import free_ports
from tests.servers.postgres import postgres_process
from tests.servers.prefect import PrefectServer, start_server, stop_server

TABLES = {"task runs": "task_run", "log lines": "log", "artifacts": "artifact", "events": "events"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A Prefect server, and a look into its database."""

    server: PrefectServer
    pids: tuple[int, ...]  # guards of its processes
    ask: Callable[[str], str]
    size: Callable[[], int]  # bytes

    def counts(self) -> Mapping[str, int]:
        """Rows by what they are."""
        return {what: int(self.ask(f"SELECT count(*) FROM {table}")) for what, table in TABLES.items()}

    def held(self) -> float:
        """MiB of the server's processes and of its database's, now."""
        return sum(_held_below(pid) for pid in self.pids)


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Served]:
    """The file that Prefect makes by itself."""
    path = folder / "prefect.db"
    with _serving(folder, f"sqlite+aiosqlite:///{path}") as (server, pid):

        def ask(query: str) -> str:
            with closing(sqlite3.connect(path, timeout=60)) as database:
                return str(database.execute(query).fetchone()[0])

        def size() -> int:
            return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))

        yield Served(server=server, pids=(pid,), ask=ask, size=size)


@contextmanager
def on_postgres(folder: Path) -> Iterator[Served]:
    """A PostgreSQL as the README tells to have it: compiling the query of a run's graph takes much longer than answering it."""
    with postgres_process(jit="off") as postgres, _serving(folder, postgres.url) as (server, pid):

        def size() -> int:
            return int(postgres.ask("SELECT pg_database_size('postgres')"))

        yield Served(server=server, pids=(pid, postgres.pid), ask=postgres.ask, size=size)


@contextmanager
def _serving(folder: Path, database: str) -> Iterator[tuple[PrefectServer, int]]:
    (port,) = free_ports(1)
    server = PrefectServer(api=f"http://127.0.0.1:{port}/api", home=folder)
    guard = start_server(server, {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database})
    try:
        yield server, guard.pid
    finally:
        stop_server(guard)


def _held_below(pid: int) -> float:
    held = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError):  # it has just ended
                held += process.memory_full_info().pss / MEBI
    return held
