"""The real Milvus 2.3.5 from the PyPI package `milvus`: one process, embedded etcd, local storage, free ports.

`milvus_server` is shared by a session, and started again, with a warning, where it ended by itself. A chaos test takes a
`MilvusProcess` of its own: `start()`, `kill()` and `start()` again serve the same data on the same port.
"""

from __future__ import annotations

import contextlib
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.processes.process_guard import die_with_parent
from tests.servers.session import remove_later, share

START_SECONDS = 120.0
UNAVAILABLE = "the PyPI package `milvus` holds a server for Linux on x86-64 only"


def free_ports(count: int) -> list[int]:
    """Ports below the range that outgoing connections take, so that none is lost while the server is down.

    A private Prefect server of a run takes those from 28000 on.
    """
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(range(20_000, 28_000), 2_000):
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("no free ports between 20000 and 28000")


def configure_etcd(configs: Path, client: int, peer: int) -> None:
    """The package moves every port but those that its embedded etcd listens on (2379, 2380): two servers would collide."""
    client_url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    (configs / "etcd.yaml").write_text(
        f"listen-client-urls: {client_url}\n"
        f"advertise-client-urls: {client_url}\n"
        f"listen-peer-urls: {peer_url}\n"
        f"initial-advertise-peer-urls: {peer_url}\n"
        f"initial-cluster: default={peer_url}\n"
    )
    milvus = configs / "milvus.yaml"
    pointer = f"\netcd:\n  config:\n    path: {configs / 'etcd.yaml'}\n"
    milvus.write_text(milvus.read_text().replace("\netcd:\n", pointer, 1))


def configure(folder: Path, lease: int) -> tuple[int, int]:
    """Lay out a server's folder; the ports of its clients and of its health. Others where one is taken between the look and the use:
    by another test run, or by a program that a thread is just starting, which holds every socket until it runs.
    """
    from milvus import MilvusServerConfig, _initialize_data_files  # noqa: PLC0415 - other machines lack it

    for last in (False, False, False, True):
        config = MilvusServerConfig(data_dir=str(folder))
        names = [name for name in config.configurable_items if name.endswith("_port")]
        *ports, health, peer = free_ports(len(names) + 2)
        config.update(**dict(zip(names, ports, strict=True)))
        config.set("common.session.ttl", lease)
        try:
            config.resolve()
        except RuntimeError as error:
            config.cleanup_listen_ports()
            if last or "bind failed" not in str(error):
                raise
        else:
            break
    _initialize_data_files(str(folder))
    configure_etcd(folder / "configs", config.get("etcd_port"), peer)
    return config.get("proxy_port"), health


class MilvusProcess:
    """A Milvus server in a folder. `folder` is kept by whoever made it; `uri` stays the same for life.

    `lease`: seconds that a new process waits for the old one's leases after a crash. A server whose disk stands still for
    longer loses its own and ends itself. `ends_with_us`: it ends with the thread that starts it.
    """

    def __init__(self, folder: Path, *, lease: int = 5, ends_with_us: bool = False) -> None:
        self.folder, self._ends_with_us = folder, ends_with_us
        proxy, self._health = configure(folder, lease)
        self.uri = f"http://127.0.0.1:{proxy}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ensure(self) -> None:
        """Start it again where it has ended by itself; a warning says how."""
        if self._process is None or self._process.poll() is None:
            return
        warnings.warn(f"Milvus ended by itself with {self._process.returncode} and is started again:\n{self._log_tail()}", stacklevel=2)
        self.kill()
        self.start()

    def start(self, seconds: float = START_SECONDS) -> None:
        """Serve; returns when the health endpoint says OK. TimeoutError or RuntimeError with the log's end otherwise."""
        assert self._process is None, "already started"
        binaries = self.folder / "bin"
        environment = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._health),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
            "LD_LIBRARY_PATH": str(binaries),
        }
        with (self.folder / "logs" / "server.log").open("ab") as log:
            self._process = self._popen(
                [str(binaries / "milvus"), "run", "standalone"],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent if self._ends_with_us else None,
            )
        try:
            self._wait_until_healthy(time.monotonic() + seconds)
        except BaseException:
            self.kill()
            raise

    def _popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, **options)

    def _wait_until_healthy(self, deadline: float) -> None:
        assert self._process is not None
        while not self._is_healthy():
            if self._process.poll() is not None:
                raise RuntimeError(f"Milvus ended with {self._process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"Milvus did not become healthy in time:\n{self._log_tail()}")
            time.sleep(0.2)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (OSError, urllib.error.URLError):
            return False

    def _log_tail(self) -> str:
        """What the log says of errors (a panic's reason stands far before its end), or its end."""
        lines = (self.folder / "logs" / "server.log").read_text(errors="replace").splitlines()
        told = [line[:500] for line in lines if "[ERROR]" in line or line.startswith("panic:")]
        return "\n".join((told or lines)[-10:])

    def kill(self) -> None:
        """kill -9, as a crash: whatever was not on disk is lost."""
        self._end(signal.SIGKILL, 10)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after a few seconds."""
        self._end(signal.SIGTERM, 5)

    def _end(self, how: signal.Signals, seconds: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for sign in (how, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                return


@contextlib.contextmanager
def milvus_process(*, lease: int = 5, ends_with_us: bool = False) -> Iterator[MilvusProcess]:
    """A started server of one's own in a temporary folder; skips the test where there is none for this machine."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(UNAVAILABLE)
    pytest.importorskip("milvus", reason=UNAVAILABLE)
    with tempfile.TemporaryDirectory(prefix="milvus-", ignore_cleanup_errors=True) as folder:
        server = MilvusProcess(Path(folder), lease=lease, ends_with_us=ends_with_us)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def _server_of_the_session() -> MilvusProcess:
    server = share(milvus_process(lease=30, ends_with_us=True))
    remove_later(server.folder)
    return server


@pytest.fixture
def milvus_server(_server_of_the_session: MilvusProcess) -> MilvusProcess:
    """One server for all tests of a session: use collection names of your own. A test that kills takes `milvus_process`."""
    _server_of_the_session.ensure()
    return _server_of_the_session
