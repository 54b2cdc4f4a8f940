"""Hosts on a Ray cluster (`compute.engine.kind: ray`): one actor per host, which is a `RemoteHost`. The only module that imports Ray.

The flow's process must run on a node of the cluster: after `ray start --address=... --num-cpus=0` on its own machine, or as a RayJob.
Elsewhere Ray waits forever. Every node needs the same Python and Ray, the same Kitestring, and the AWS variables or an instance role.

    ray start --head --num-cpus=0 --node-ip-address=IP --disable-usage-stats        # the flow's machine, which encodes nothing
    ray start --address=IP:6379 --node-ip-address=IP2                               # each host

A node's host has all its GPUs (`num_gpus`), unless `compute.engine.resources` says what a host needs: then a node has as many hosts as
fit, and with `hosts: N` an autoscaler sees the demand. RAY_health_check_period_ms=1000, RAY_health_check_timeout_ms=2000 and
RAY_health_check_failure_threshold=3 on the head detect a disconnected node in 10 s instead of a minute. The first process of a
container must reap orphans (tini), or the death of a killed raylet is never detected.

Ray neither retries calls (`max_task_retries=0`) nor restarts actors that died (`max_restarts=0`): the fleet does, since only it knows
that the work of the old actor was given to others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.cluster_hosts.fleet_loading import MOST_STREAMS
from tasks.adapters.engines.cluster_hosts.host_answers import in_a_line
from tasks.adapters.engines.cluster_hosts.signal_handlers import kept_handlers
from tasks.adapters.engines.far_spec import spec_for_afar
from tasks.adapters.engines.remote_host import RemoteHost
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_events import Tell
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.encoding.work_division import TAKES_AT_ONCE
from tasks.domain.errors import BadInput, Transient
from tasks.domain.job.engine import RayEngineSettings
from tasks.domain.ports import Store

ACTOR_THREADS = TAKES_AT_ONCE + MOST_STREAMS + 4  # of an actor: groups, loading streams, and room for report, release and close
INSTEAD = "start the flow on a node of the cluster: `ray start --address=...` beside it, or a RayJob"


class HostActor(RemoteHost):
    """The actor class: a host that has the process to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.leave_on_sigterm()


class RayHost:
    """A `HostLink` to an actor; the next call creates one if there is none."""

    def __init__(self, actor_class: type[RemoteHost], options: Mapping[str, Any]) -> None:
        self._actor_class, self._options = actor_class, options
        self._actor: Any = None

    def call(self, method: str, *arguments: object) -> Future[str]:
        if not ray.is_initialized():  # otherwise Ray would start its own cluster
            raise ConnectionError("this process has left the Ray cluster")
        self._actor = self._actor or ray.remote(self._actor_class).options(**self._options).remote()
        answer: Future[str] = getattr(self._actor, method).remote(*arguments).future()
        return answer

    def end(self) -> None:
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor, no_restart=True)
        self._actor = None


class RayCluster:
    """The `Cluster` of a job's settings; joins it on construction, leaves it on `close`.

    Raises:
        BadInput: there is no cluster at the address, or this machine is not one of its nodes.
    """

    def __init__(self, settings: RayEngineSettings, *, run: str, actor_class: type[RemoteHost] = HostActor) -> None:
        self._settings, self._actor_class = settings, actor_class
        self._hosts: dict[tuple[str, int], RayHost] = {}
        _connection.join(settings.address, run)

    @property
    def most(self) -> int | None:
        return None if self._settings.hosts == "auto" else self._settings.hosts

    def hosts(self) -> Sequence[RayHost]:
        options_by_place = self._actor_options(_nodes())
        for place in [place for place in self._hosts if place not in options_by_place]:
            self._hosts.pop(place).end()
        for place, options in options_by_place.items():
            if place not in self._hosts:
                self._hosts[place] = RayHost(self._actor_class, options)
        return list(self._hosts.values())

    def close(self) -> None:
        for host in self._hosts.values():
            host.end()
        _connection.leave()

    def _actor_options(self, nodes: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
        """Actor options by place: a node's host, or a numbered host that Ray places where its resources fit."""
        needs = self._settings.resources
        if not needs:
            on = [node for node in nodes if node["Resources"].get("GPU")] or [node for node in nodes if node["Resources"].get("CPU")]
            chosen = sorted(on, key=lambda node: (node["NodeID"], 0) not in self._hosts)[: self.most]  # current hosts first
            return {(node["NodeID"], 0): _options(node=node["NodeID"], gpus=node["Resources"].get("GPU", 0)) for node in chosen}
        fits = sum(int(min(node["Resources"].get(name, 0) / amount for name, amount in needs.items())) for node in nodes)
        return {("anywhere", number): _options(needs=needs) for number in range(self.most or fits)}


def open_ray(
    spec: EncodingSpec,
    *,
    scratch: Path,  # noqa: ARG001 - each host has its own
    tell: Tell,
    store: Store | None = None,  # noqa: ARG001
    model: LocatedModel | None = None,
) -> Fleet:
    """The engine of `compute.engine.kind: ray`.

    Raises:
        BadInput: hosts cannot reach the checkpoint or the source.
    """
    settings = spec.job.compute.engine
    assert isinstance(settings, RayEngineSettings)
    return Fleet(lambda: RayCluster(settings, run=spec.run), spec_for_afar(spec, shared=settings.shared, model=model), tell=tell)


class _Connection:
    """The process's connection to a cluster, shared by all its runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users, self._ours = 0, False

    def join(self, address: str, run: str) -> None:
        with self._lock:
            if not ray.is_initialized():  # a flow within a Ray job is connected already
                _join(address, run)
                self._ours = True
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._ours and not self._users:
                self._ours = False
                with kept_handlers():
                    ray.shutdown()


_connection = _Connection()


def _join(address: str, run: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        with kept_handlers():
            ray.init(address=address, namespace=f"kitestring-{run}", **quiet)
    except ConnectionError as error:
        raise BadInput(
            f"compute.engine.address '{address}': no Ray cluster can be reached from this machine ({in_a_line(error)}): {INSTEAD}"
        ) from error
    except RuntimeError as error:  # the cluster has another version of Ray or Python
        raise BadInput(f"compute.engine.address '{address}': {in_a_line(error)}") from error


def _nodes() -> list[dict[str, Any]]:
    try:
        return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    except Exception as error:
        raise Transient(f"the Ray cluster does not answer: {in_a_line(error)}") from error


def _options(*, node: str | None = None, gpus: float = 0, needs: Mapping[str, float] | None = None) -> dict[str, Any]:
    needs = dict(needs or {})
    place = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)} if node else {}
    return {
        "num_cpus": needs.pop("CPU", 0),
        "num_gpus": needs.pop("GPU", gpus),
        "resources": needs,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": ACTOR_THREADS,
        **place,
    }
