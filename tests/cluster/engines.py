"""Ray and Dask on the machines: how a head and a node are started, and what their processes are called."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.machines import HUB

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
DASK_PORT = 8786


@dataclass(frozen=True, kw_only=True)
class OnMachines:
    """An engine. `head`, `node`, `host`: what is in the command lines of their processes; `all`: in those of everything of it."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    head: tuple[str, ...]
    node: tuple[str, ...]
    host: tuple[str, ...]
    all: tuple[str, ...]

    def start_head(self, cluster: Cluster) -> None:
        raise NotImplementedError

    def join(self, cluster: Cluster, host: str) -> None:
        """Have a host join; it is used as soon as a run sees it."""
        raise NotImplementedError

    def is_up(self, cluster: Cluster, machine: str) -> bool:
        """Whether the head runs on the hub, or a node on a host."""
        return bool(cluster.found(machine, self.head if machine == HUB else self.node))


class OfRay(OnMachines):
    """By the commands of the README."""

    def start_head(self, cluster: Cluster) -> None:
        cluster.shell(HUB, readme_command("hub", "ray start"))

    def join(self, cluster: Cluster, host: str) -> None:
        cluster.shell(host, readme_command("gpu1", "ray start"))


class OfDask(OnMachines):
    """As `tasks.adapters.engines.dask_engine` says."""

    def start_head(self, cluster: Cluster) -> None:
        self._start(cluster, HUB, "scheduler", "--port", DASK_PORT, "--no-jupyter")
        cluster.wait(lambda: cluster.port_is_open(HUB, DASK_PORT), "Dask's scheduler")

    def join(self, cluster: Cluster, host: str) -> None:
        self._start(cluster, host, "worker", f"tcp://{cluster.net.address(HUB)}:{DASK_PORT}", "--nthreads", 1, "--local-directory", "/tmp")

    def _start(self, cluster: Cluster, machine: str, what: str, *options: object) -> None:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, "--host", cluster.net.address(machine), "--no-dashboard"]
        with cluster.net.log(machine, "dask") as log:
            cluster.net.start(machine, command, cluster.env, stdout=log, stderr=log)


RAY = OfRay(
    kind="ray",
    settings={"kind": "ray"},
    head=("gcs_server",),
    node=("raylet/raylet",),
    host=("HostActor",),
    all=("ray::", "/ray/", "raylet", "gcs_server"),
)
DASK = OfDask(
    kind="dask",
    settings={"kind": "dask", "scheduler": f"tcp://{HUB}:{DASK_PORT}"},
    head=("dask_scheduler",),
    node=("dask_worker", "multiprocessing.spawn"),
    host=("cluster_hosts.host_process",),
    all=("dask_scheduler", "dask_worker", "multiprocessing.spawn"),
)
ON_MACHINES = {engine.kind: engine for engine in (RAY, DASK)}


def readme_command(machine: str, begins: str) -> str:
    """The one command that the README has for a machine and that begins so."""
    (found,) = re.findall(rf"^{machine}\$ ({begins}.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)
