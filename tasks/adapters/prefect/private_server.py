"""A Prefect server for one run of the command line, where the user has none.

Prefect starts such a server by itself, but leaves it behind when the command is killed with -9. This one stands
behind the guard, so it ends with the run, whatever ends the run. Importing Prefect and starting a server take
about three seconds each: start the server first, import Prefect then, and wait last. That is why nothing here
imports Prefect, and why the address is handed over in the environment, which Prefect reads when it is imported.

    with private_server() as server:
        from flows.embed import embed_corpus
        server.wait()
        embed_corpus(job)

The runs are kept in the database of PREFECT_HOME, as Prefect keeps them, so that `prefect server start` shows them
later. SQLite has one writer, so a second command at the same time gets a database of its own, gone when it ends; so does one
whose PREFECT_HOME cannot be written. The server answers to this run alone: it requires an auth string that only this run has,
whatever auth string or key the user has set for another server.
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

START_SECONDS = 120.0  # 3 on an idle machine, 9 where the database is new
STOP_SECONDS = 5.0
SERVER = "prefect.server.api.server:create_app"

# What Prefect sets for a server of its own, and its analytics off: a run reaches nothing that its job does not name.
SERVER_SETTINGS = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "0",
}


class PrivateServer:
    """A server that was started; `api` is its address. It takes requests once `wait` has returned."""

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
        """Return when the server takes requests.

        A database in PREFECT_HOME that this Prefect cannot open (a newer one has upgraded it) is left alone, and
        the run goes on with a database of its own.

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
        return lines[-1] if lines else "it said nothing"

    def stop(self) -> None:
        """End it: first as it likes to end, since it writes down task runs a moment late; then by the guard."""
        _send_what_is_logged()
        with contextlib.suppress(psutil.NoSuchProcess, subprocess.TimeoutExpired):
            for server in psutil.Process(self._guard.pid).children():
                server.terminate()
            self._guard.wait(STOP_SECONDS)
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()


@contextlib.contextmanager
def private_server() -> Iterator[PrivateServer]:
    """Start a server and name it in this process' environment; returns at once, before it is up.

    On leaving, the server is ended and the environment is as it was.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())  # swept by the next run where this one is killed
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
    """Whether the database of PREFECT_HOME is this run's for now; the kernel lets go of it, whatever ends the run."""
    prefect_home().mkdir(parents=True, exist_ok=True)
    with _lock_of_home() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _send_what_is_logged() -> None:
    """Prefect sends log lines in the background, and complains at exit of those that find no server."""
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
    """Behind a proxy, requests to the loopback interface must bypass it."""
    hosts = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    straight = f"{hosts},127.0.0.1" if hosts else "127.0.0.1"
    return {"no_proxy": straight, "NO_PROXY": straight}


def _free_port() -> int:
    """A port below those that the kernel gives to outgoing connections, so that none takes it before the server does."""
    for port in random.sample(range(28_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Permanent("no free port between 28000 and 32000 for the Prefect server of this run")


def _is_healthy(api: str) -> bool:
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(f"{api}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
