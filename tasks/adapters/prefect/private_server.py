"""A Prefect server for one command, used if the user has configured none.

Prefect can start such a server itself, but leaves it behind when the command is killed with -9. This one runs
behind a process guard, so it ends with the run, however the run ends. Importing Prefect and starting a server take
about three seconds each: start the server first, then import Prefect, and wait last. Therefore this module does not
import Prefect, and passes the address in the environment, which Prefect reads on import.

    with private_server() as server:
        from flows.embed import embed_corpus
        server.wait()
        embed_corpus(job)

Runs are stored in the database of PREFECT_HOME, as Prefect does, so that `prefect server start` shows them
later. SQLite has one writer, so a concurrent command gets a temporary database, as does one
whose PREFECT_HOME is not writable. The server accepts only this run: it requires an auth string that only this run has,
regardless of any auth string or key the user has set for another server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

import psutil

from tasks.adapters.prefect.api_settings import prefect_home
from tasks.adapters.processes.process_guard import start_guarded
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import Permanent

START_SECONDS = 120.0  # takes 3 on an idle machine, 9 with a new database
STOP_SECONDS = 5.0
SERVER = "prefect.server.api.server:create_app"

# Prefect's settings for an ephemeral server, with analytics off: a run contacts no service that its job does not name.
SERVER_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
}


class PrivateServer:
    """A started server; `api` is its address. It accepts requests once `wait` has returned."""

    def __init__(self, folder: Path, *, home_database: bool) -> None:
        self._port = _free_port()
        self.api = f"http://127.0.0.1:{self._port}/api"
        self.auth = f"kitestring:{secrets.token_urlsafe()}"
        self._folder = folder
        self._log = folder / "server.log"
        self._home_database = home_database
        self._guard = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        settings = SERVER_SETTINGS | {"PREFECT_SERVER_API_AUTH_STRING": self.auth}
        if not self._home_database:
            settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{self._folder}/prefect.db"
        uvicorn = [sys.executable, "-m", "uvicorn", "--factory", SERVER, "--host", "127.0.0.1", "--port", str(self._port)]
        with self._log.open("ab") as log:
            return start_guarded(
                [*uvicorn, "--log-level", "error", "--lifespan", "on", "--timeout-graceful-shutdown", "2"],
                env=os.environ | settings,
                stdout=log.fileno(),
                stderr=log.fileno(),
            )

    def wait(self, seconds: float = START_SECONDS) -> None:
        """Return when the server accepts requests.

        If this Prefect cannot open the database in PREFECT_HOME (a newer version has upgraded it), leaves that alone and
        restarts with a temporary database.

        Raises:
            Permanent: it did not start; the message has the last line of its log.
        """
        deadline = time.monotonic() + seconds
        while self._guard.poll() is None:
            if _is_healthy(self.api):
                return
            if time.monotonic() > deadline:
                raise Permanent(f"the Prefect server for this run took more than {seconds:.0f} s to start: {self._last_words()}")
            time.sleep(0.05)
        if not self._home_database:
            raise Permanent(f"the Prefect server for this run ended at its start: {self._last_words()}")
        self._home_database = False
        self._guard = self._start()
        self.wait(deadline - time.monotonic())

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        if any("address already in use" in line for line in lines):
            return f"another program has just taken port {self._port}: run the command again"
        return lines[-1] if lines else "no output"

    def stop(self) -> None:
        """Stop the server: gracefully first, since it stores task runs with a delay; then by its guard."""
        _flush_log_lines()
        with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
            for server in psutil.Process(self._guard.pid).children():
                server.terminate()
            self._guard.wait(STOP_SECONDS)
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


@contextlib.contextmanager
def private_server() -> Iterator[PrivateServer]:
    """Start a server and set its address in this process's environment; returns at once, before the server is up.

    On exit, stops the server and restores the environment.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())  # if this run is killed, the next one removes it
        if not _writable_home():
            stack.enter_context(_environment({"PREFECT_HOME": str(folder / "home")}))
        home_database = stack.enter_context(_home_database())
        server = PrivateServer(folder, home_database=home_database)
        stack.callback(server.stop)
        ours = {"PREFECT_API_URL": server.api, "PREFECT_API_AUTH_STRING": server.auth, "PREFECT_API_KEY": None, "DO_NOT_TRACK": "1"}
        stack.enter_context(_environment({**ours, **_no_proxy()}))
        yield server


def _lock_of_home() -> TextIO:
    return (prefect_home() / "kitestring.lock").open("a")


def _writable_home() -> bool:
    try:
        prefect_home().mkdir(parents=True, exist_ok=True)
        _lock_of_home().close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _home_database() -> Iterator[bool]:
    """Try to lock the database of PREFECT_HOME; yields whether this run has it. The kernel releases the lock however the run ends."""
    prefect_home().mkdir(parents=True, exist_ok=True)
    with _lock_of_home() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _flush_log_lines() -> None:
    """Have Prefect send its queued log lines now: at exit it complains about lines that reach no server."""
    if handlers := sys.modules.get("prefect.logging.handlers"):
        handlers.APILogWorker.drain_all(timeout=STOP_SECONDS)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _no_proxy() -> dict[str, str]:
    """Variables that let requests to the loopback interface bypass a proxy."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    exempt = f"{hosts},127.0.0.1" if hosts else "127.0.0.1"
    return {"no_proxy": exempt, "NO_PROXY": exempt}


def _free_port() -> int:
    """A free port below the kernel's range for outgoing connections, so that none takes it before the server does."""
    for port in random.sample(range(28_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Permanent("no free port between 28000 and 32000 for the Prefect server of this run")


def _is_healthy(api: str) -> bool:
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with without_proxy.open(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
