"""A real PostgreSQL on the loopback, with a data folder of its own: for benchmarks of a Prefect server that keeps its runs there.

Its programs are the machine's own (Debian: `apt-get install postgresql`). They refuse to work for root, so root has
them work for another user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.adapters.processes.process_guard import start_guarded
from tests.servers.milvus import free_ports

SECONDS = 60.0
USERS = ("postgres", "nobody")  # whom root has it work for: the first that there is


class NoPostgres(Exception):
    """There is none on this machine; says what brings one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A server that takes connections, for as long as its `with` lasts."""

    port: int
    pid: int  # its guard's: every process of the server is below it

    @property
    def url(self) -> str:
        """As Prefect takes it. The loopback is trusted, so there is no password."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/postgres"

    def ask(self, query: str) -> str:
        """The answer to an SQL query, as text."""
        command = [str(programs() / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect", "-d", "postgres", "-Atc", query]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.strip()


def programs() -> Path:
    """The folder of the newest PostgreSQL of this machine.

    Raises:
        NoPostgres: there is none.
    """
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if not folders:
        raise NoPostgres("no PostgreSQL on this machine: apt-get install postgresql")
    return folders[-1]


@contextlib.contextmanager
def postgres_process(**chosen: str) -> Iterator[Postgres]:
    """A server of one's own, behind the guard. `chosen`: its settings by name, where not its defaults."""
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        folder, prefix = Path(name), _as_another(Path(name))
        make = [*prefix, str(programs() / "initdb"), "-D", f"{folder}/data", "-U", "prefect", "-A", "trust", "-E", "UTF8", "--locale", "C"]
        subprocess.run(make, cwd=folder, capture_output=True, timeout=SECONDS, check=True)
        (port,) = free_ports(1)
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, **chosen}
        given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "server.log").open("ab") as log:
            command = [*prefix, str(programs() / "postgres"), "-D", f"{folder}/data", *given]
            guard = start_guarded(command, stdout=log.fileno(), stderr=log.fileno())
        server = Postgres(port=port, pid=guard.pid)
        try:
            _wait(server, guard, folder / "server.log")
            yield server
        finally:
            _stop(guard)


def _as_another(folder: Path) -> list[str]:
    """What has a command work for somebody else than root, and the folder theirs; nothing where nobody is root."""
    if os.geteuid() != 0:
        return []
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = next(names[name] for name in USERS if name in names)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _wait(server: Postgres, guard: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and guard.poll() is None:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.ask("SELECT 1")
            return
        time.sleep(0.1)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')[-2000:]}")


def _stop(guard: subprocess.Popen[bytes]) -> None:
    """First as it likes to end, which leaves no shared memory behind; then by the guard."""
    with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
        for server in psutil.Process(guard.pid).children():
            server.send_signal(signal.SIGINT)
        guard.wait(10)
    assert guard.stdin is not None
    guard.stdin.close()
    guard.wait(10)
