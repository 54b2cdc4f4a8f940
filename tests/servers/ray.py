"""A real Ray cluster on the loopback: one node that has room for several hosts, started as processes and ended by their ids."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.servers.milvus import free_ports
from tests.servers.session import remove_later, share

# Ray takes a token that it finds in the home of whoever runs the tests, in some of a cluster's processes; read when it is imported.
os.environ["RAY_AUTH_MODE"] = "disabled"
ROOT = Path(__file__).parents[2]
HOSTS = 3  # that it has room for
START_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class RayServer:
    """A cluster of one node with the custom resource `host`."""

    address: str
    folder: Path

    def engine(self, hosts: int = 2, **settings: object) -> dict[str, object]:
        """A `compute.engine` on it."""
        return {"kind": "ray", "address": self.address, "hosts": hosts, "resources": {"host": 1}, "shared": True, **settings}

    def hosts(self) -> list[psutil.Process]:
        """The actors that are hosts now."""
        raylets = [p for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])]
        return [child for raylet in raylets for child in raylet.children() if any("HostActor" in part for part in child.cmdline())]


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayServer]:
    """A cluster of one's own. Its processes are found again by its folder, which each of them names."""
    (port, *workers) = free_ports(1 + 60)
    server = RayServer(address=f"127.0.0.1:{port}", folder=folder)
    options = {
        "port": port,
        "node-ip-address": "127.0.0.1",  # Ray asks for an address on the internet otherwise
        "num-cpus": 2,
        "num-gpus": 0,
        "resources": f'{{"host": {HOSTS}}}',
        "memory": 10**9,
        "object-store-memory": 10**8,
        "include-dashboard": "false",
        "temp-dir": folder,
        "worker-port-list": ",".join(map(str, sorted(workers))),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_raylet_start_wait_time_s": "60"}
    try:
        started = subprocess.run(command, env=env, capture_output=True, text=True, timeout=START_SECONDS, check=False)
        assert started.returncode == 0, started.stdout + started.stderr
        yield server
    finally:
        end_processes(folder)


def end_processes(folder: Path) -> None:
    """End all of a cluster, the node's first."""
    named = [process for process in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(process.info["cmdline"] or [])]
    everyone = {child for process in named if process.pid != os.getpid() for child in (process, *_children(process))}
    for process in everyone:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(everyone, timeout=10)


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


@contextmanager
def _session_cluster() -> Iterator[RayServer]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets bear no long path
    remove_later(folder)
    with ray_cluster(folder) as server:
        end_with_this_process(folder)
        yield server


def end_with_this_process(folder: Path) -> None:
    """End all of a cluster when this process is gone, whatever ends it."""
    watch = "import os, sys, time\nwhile os.getppid() == int(sys.argv[1]): time.sleep(1)\n"
    watch += "from pathlib import Path\nfrom tests.servers.ray import end_processes\nend_processes(Path(sys.argv[2]))"
    subprocess.Popen([sys.executable, "-c", watch, str(os.getpid()), str(folder)], cwd=ROOT, start_new_session=True)


@pytest.fixture(scope="session")
def ray_server() -> RayServer:
    """One for the session, which a process that outlives the session ends."""
    return share(_session_cluster())
