"""A real Dask cluster on the loopback: a scheduler and workers, each with its nanny, ended by their ids."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.servers.milvus import free_ports
from tests.servers.ray import HOSTS, ROOT, START_SECONDS, end_processes, end_with_this_process
from tests.servers.session import remove_later, share


@dataclass(frozen=True, kw_only=True)
class DaskServer:
    """A cluster whose workers have the resource `host`."""

    address: str
    folder: Path

    def engine(self, hosts: int = 2, **settings: object) -> dict[str, object]:
        """A `compute.engine` on it."""
        return {"kind": "dask", "scheduler": self.address, "hosts": hosts, "worker_resources": {"host": 1}, "shared": True, **settings}

    def hosts(self) -> list[psutil.Process]:
        """The workers that have a host now."""
        named = [p for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])]
        below = [child for process in named for child in process.children(recursive=True)]
        return [worker for host in below if any("host_process" in part for part in host.cmdline()) and (worker := host.parent())]


@contextmanager
def dask_cluster(folder: Path) -> Iterator[DaskServer]:
    """A cluster of one's own."""
    (port,) = free_ports(1)
    server = DaskServer(address=f"tcp://127.0.0.1:{port}", folder=folder)
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard", "--no-jupyter"]
    worker = ["distributed.cli.dask_worker", server.address, "--nthreads", 1, "--no-dashboard", "--resources", "host=1"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate([[*scheduler, "--scheduler-file", folder / "scheduler.json"], *[worker] * HOSTS]):
            own = ["--local-directory", folder] if number else []
            with (folder / f"{number}.log").open("wb") as log:
                line = [sys.executable, "-m", *map(str, [*command, *own])]
                started.append(subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log))
        _wait_for_workers(server, started)
        yield server
    finally:
        end_processes(folder)
        for process in started:
            process.wait()


def _wait_for_workers(server: DaskServer, started: list[subprocess.Popen[bytes]]) -> None:
    from distributed import Client  # noqa: PLC0415 - takes a second

    deadline = time.monotonic() + START_SECONDS
    while not (server.folder / "scheduler.json").exists():
        assert time.monotonic() < deadline
        assert started[0].poll() is None, (server.folder / "0.log").read_text()
        time.sleep(0.05)
    with Client(server.address, set_as_default=False, timeout=START_SECONDS) as client:
        client.wait_for_workers(HOSTS, timeout=START_SECONDS)


@contextmanager
def _session_cluster() -> Iterator[DaskServer]:
    folder = Path(tempfile.mkdtemp(prefix="dask-"))
    remove_later(folder)
    with dask_cluster(folder) as server:
        end_with_this_process(folder)
        yield server


@pytest.fixture(scope="session")
def dask_server() -> DaskServer:
    """One for the session, which a process that outlives the session ends."""
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    return share(_session_cluster())
