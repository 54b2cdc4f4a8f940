"""What many machines cost the flow, and from that how many of them one flow keeps busy.

Three hosts that sleep in place of encoding are driven through 2,000 groups: as threads of this process (the driver's own work) and as
actors of a Ray cluster on this machine (Ray's as well). What that costs goes into a model of 10 to 1,000 hosts and a million shards
(`cluster_model.py`), whose first bottleneck is named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from tasks.adapters.checkpoint.part_files import read_part
from tasks.adapters.engines.cluster_hosts.cluster import Cluster, HostLink
from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.cluster_hosts.host_seat import seconds_between_looks
from tasks.adapters.engines.remote_host import SILENCE_SECONDS
from tasks.adapters.milvus.milvus_collection import UPSERT_BYTES, UPSERT_ROWS
from tasks.adapters.milvus.protobuf import as_request
from tasks.adapters.rows.collection_rows import batches, columns_of, rows_for
from tasks.domain.encoding.encoding_events import EncodingEvent, ShardLoaded, ShardSealed
from tasks.domain.encoding.encoding_spec import EncodingSpec, LoadGroup, ShardGroup
from tasks.domain.encoding.work_division import MOST_SHARDS
from tasks.domain.job.engine import RayEngineSettings
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.task_groups import MOST_IN_GROUP
from tasks.domain.target.collection import CollectionSpec
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.cluster_model import RECORD, Driver, Scene, shards_of, simulate
from tests.benchmarks.figures import Results, Series, compare
from tests.benchmarks.kitestring import job_of, own_folder
from tests.benchmarks.loading import DIM, FIELDS, write_parts
from tests.benchmarks.sleeping_hosts import Counted, SleepingHost, SleepingThreads

HOSTS, GROUPS = 3, 2_000
SIZES = (1, MOST_SHARDS)  # shards of a group
RUN = "20261126T080000000-abcdef"
DRIVER, RAY = "driver", "driver and Ray"
MILLISECONDS, SENT, RECEIVED, LOOKS, LOOK = "ms a group", "kB sent", "kB received", "ms a look", "bytes a look"
LOADED, CLIENT_ROWS = 2_000, 50_000
Loads = Literal["flow", "hosts"]
LOADS: tuple[Loads, ...] = ("flow", "hosts")
UPSERTS = 22_400.0  # rows/s into Milvus 2.3.5 on two cores that its client had as well, as `loading` measured
SCENES = {
    "10 GPUs: 2 hosts, 2,000 shards": Scene(hosts=2, shards=2_000, rate=10_000, lost_every=600),
    "100 GPUs: 13 hosts, 100,000 shards": Scene(hosts=13, shards=100_000, lost_every=600),
    "800 GPUs: 100 hosts, 1,000,000 shards": Scene(hosts=100, shards=1_000_000, lost_every=600),
    "1,000 GPUs: 125 hosts, 1,000,000 shards": Scene(hosts=125, shards=1_000_000, lost_every=600),
    "1,000 GPUs, each a host, 1,000,000 shards": Scene(hosts=1_000, shards=1_000_000, rate=2_000, lost_every=600),
}


def cluster(sizes: Sizes) -> Outcome:
    """Milliseconds and bytes of the driver for a group; efficiency of large clusters by simulation."""
    groups = sizes.rows_or(GROUPS, quick=20)
    with own_folder() as folder:
        spec = sleeping_spec(folder)
        contenders: dict[str, Callable[[], Mapping[str, float]]] = {}
        for size in SIZES:
            contenders[f"{DRIVER}, groups of {size}"] = partial(drive, spec, _threads, size, max(1, groups // size))
            if find_spec("ray"):
                contenders[f"{RAY}, groups of {size}"] = partial(_on_ray, folder, size, max(1, groups // size))
        results = compare({name: each for name, each in contenders.items() if sizes.wants(name)}, 1 if sizes.quick else sizes.rounds)
        results["a host loads a shard"] = compare({"": partial(drive_loads, spec, 100 if sizes.quick else LOADED)}, 1)[""]
        results["the flow loads a row"] = compare({"": partial(client, folder, 2_000 if sizes.quick else CLIENT_ROWS)}, sizes.rounds)[""]
    costs = costs_of(results)
    scenes = {name: replace(scene, shards=min(scene.shards, 500)) for name, scene in SCENES.items()} if sizes.quick else SCENES
    for name, scene in scenes.items():
        course = simulate(replace(scene, driver=costs))
        sys.stdout.write(f"  {name}: {course}\n")
        results[name] = {"efficiency, %": Series((100 * course.efficiency,)), "driver busy, %": Series((100 * course.busy,))}
        results[name] |= {"hours": Series((course.seconds / 3_600,)), "lost": Series((float(course.lost),))}
    said = [f"{name}: {bottleneck(scene, costs, loads)}" for name, scene in SCENES.items() for loads in LOADS]
    return Outcome(title=f"A cluster: {HOSTS} hosts that sleep, and simulated ones", results=results, conclusions=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Something that all hosts share, and how many rows a second it takes at most."""

    name: str
    rows_per_second: float
    cure: str


def bounds(scene: Scene, costs: Driver, loads: Loads = "flow") -> list[Bound]:
    """What hosts share, the narrowest first."""
    looks = scene.hosts / seconds_between_looks(scene.hosts, SILENCE_SECONDS) * costs.report
    shard = costs.take / MOST_SHARDS + costs.shard + (costs.loaded if loads == "hosts" else 0.0)
    takes = scene.rows / shard * max(0.0, 1 - looks) if costs.take else float("inf")
    one = 1 / costs.row if costs.row else float("inf")
    clients = {
        "flow": Bound(name="the flow as the server's client", rows_per_second=one, cure="target.load_from: hosts"),
        "hosts": Bound(name="the hosts as its clients", rows_per_second=scene.hosts * one, cure="more hosts"),
    }
    found = [
        Bound(name="a server as it was measured", rows_per_second=UPSERTS, cure="a larger one, or target.load: import"),
        clients[loads],
        Bound(name="the driver's thread", rows_per_second=takes, cure="larger shards.rows"),
    ]
    return sorted(found, key=lambda bound: bound.rows_per_second)


def bottleneck(scene: Scene, costs: Driver, loads: Loads = "flow") -> str:
    """What is reached first, and what to set there; the hosts themselves where nothing is."""
    asked = scene.hosts * scene.rate
    first = bounds(scene, costs, loads)
    named = [f"{each.name} at {each.rows_per_second:,.0f} rows/s ({each.cure})" for each in first if each.rows_per_second < asked]
    return f"load_from {loads}: first bound by {', then '.join(named) or 'nothing but the hosts'}; the hosts encode {asked:,.0f} rows/s"


def costs_of(results: Results) -> Driver:
    """What the model needs, from groups of one shard and of many; where Ray was measured, each call and each look pays for it as well."""

    def measured(kind: str, size: int, figure: str = MILLISECONDS) -> float:
        return results[f"{kind}, groups of {size}"][figure].median / 1_000

    kind = RAY if f"{RAY}, groups of {SIZES[0]}" in results else DRIVER
    alone, many = (measured(kind, size) for size in SIZES)
    shard = max(0.0, (many - alone) / (SIZES[1] - SIZES[0]))
    call = alone - measured(DRIVER, SIZES[0])  # of the engine
    loaded, row = (results[name][MILLISECONDS].median / 1_000 for name in ("a host loads a shard", "the flow loads a row"))
    report = measured(DRIVER, SIZES[0], LOOKS) + max(0.0, call)
    return Driver(take=max(0.0, alone - shard), shard=shard, report=report, loaded=loaded, row=row)


class _Timed(Fleet):
    """A fleet that knows what processor time its thread took."""

    cpu_seconds = 0.0

    def _drive(self) -> None:
        began = time.thread_time()
        super()._drive()
        self.cpu_seconds = time.thread_time() - began


class _Links:
    """A cluster whose links count."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster, self.links = cluster, dict[int, Counted]()

    def hosts(self) -> Sequence[HostLink]:
        return [self.links.setdefault(id(link), Counted(link)) for link in self._cluster.hosts()]

    def close(self) -> None:
        self._cluster.close()


def _threads() -> Cluster:
    from tests.builders.engines.fake_engine import ThreadCluster  # noqa: PLC0415

    return ThreadCluster(*(SleepingThreads() for _ in range(HOSTS)))


def drive(spec: EncodingSpec, connect: Callable[[], Cluster], size: int, groups: int, *, whole: bool = False) -> dict[str, float]:
    """Have a fleet do so many groups.

    Args:
        spec: the run.
        connect: joins the cluster.
        size: shards of each group.
        groups: how many.
        whole: count the processor time of this whole process, which then holds no host.
    """
    sealed = 0

    def tell(event: EncodingEvent) -> None:
        nonlocal sealed
        sealed += isinstance(event, ShardSealed)

    links = _Links(connect())
    fleet = _Timed(lambda: links, spec, tell=tell)
    fleet.facts()
    idle = _looks_cost(fleet)
    links_before = [(link.sent, link.received) for link in links.links.values()]
    shards, began, before = shards_of(Scene(hosts=HOSTS, shards=size * groups)), time.monotonic(), time.process_time()
    fleet.expect(size * groups * 50_000)
    waiting = [ShardGroup(shards=tuple(next(shards) for _ in range(size)), record=RECORD, attempt=RUN) for _ in range(groups)]
    made = time.process_time() - before
    with ThreadPoolExecutor(fleet.width) as callers:
        list(callers.map(fleet.encode, waiting))
    seconds, cpu = time.monotonic() - began, time.process_time() - before - made
    sent, received = (sum(getattr(link, name) for link in links.links.values()) for name in ("sent", "received"))
    sent, received = sent - sum(each[0] for each in links_before), received - sum(each[1] for each in links_before)
    looks = sum(link.looks for link in links.links.values())
    bytes_a_look = sum(link.looked for link in links.links.values()) / max(1, looks)
    fleet.close()
    assert sealed == size * groups
    spent = cpu if whole else fleet.cpu_seconds
    return {
        MILLISECONDS: 1_000 * spent / groups,
        SENT: sent / groups / 1_000,
        RECEIVED: received / groups / 1_000,
        LOOK: bytes_a_look,
        LOOKS: 1_000 * idle,
        "seconds": seconds,
    }


def drive_loads(spec: EncodingSpec, shards: int) -> dict[str, float]:
    """Have the hosts of a fleet load so many shards; what the fleet's thread spends on each."""
    told: list[EncodingEvent] = []
    fleet = _Timed(_threads, spec, tell=told.append)
    fleet.facts()
    fingerprint = RECORD.identity.fingerprint
    made = {"name": "c", "alias": "a", "dim": 384, "metric": "COSINE", "store_text": True, "id_length": 512, "fields": ()}
    collection = CollectionSpec(**made, fingerprint=fingerprint, model="m")
    every, began = tuple(shards_of(Scene(hosts=HOSTS, shards=shards))), time.monotonic()
    waiting = [every[first : first + MOST_IN_GROUP] for first in range(0, shards, MOST_IN_GROUP)]
    groups = [LoadGroup(shards=some, record=RECORD, collection=collection, identity="i", ledger="l") for some in waiting]
    with ThreadPoolExecutor(fleet.width) as callers:
        list(callers.map(fleet.load, groups))
    seconds = time.monotonic() - began
    fleet.close()
    assert sum(isinstance(event, ShardLoaded) for event in told) == shards
    return {MILLISECONDS: 1_000 * fleet.cpu_seconds / shards, "seconds": seconds}


def client(folder: Path, rows: int) -> dict[str, float]:
    """Processor time of whoever loads a row into Milvus, without the server: a part is read and checked, and becomes requests."""
    parts = list(write_parts(folder, rows))
    made = {"name": "c", "alias": "a", "dim": DIM, "metric": "COSINE", "store_text": True, "id_length": 512, "fields": FIELDS}
    spec = CollectionSpec(**made, fingerprint="f", model="m")
    columns, began = columns_of(spec), time.thread_time()
    for part in parts:
        table, _ = rows_for(spec, read_part(part.read_bytes(), part.name)[0])
        for batch in batches(table, columns, most_rows=UPSERT_ROWS, most_bytes=UPSERT_BYTES):
            as_request(batch, columns, DIM, collection="c", nullable=frozenset()).SerializeToString()
    return {MILLISECONDS: 1_000 * (time.thread_time() - began) / rows}


def _looks_cost(fleet: _Timed, *, seconds: float = 5.0) -> float:
    """Processor seconds of the fleet's thread for a look at one host, while there is nothing to do."""

    def clock() -> float:
        told: Future[float] = Future()
        fleet._inbox.put(lambda: told.set_result(time.thread_time()))
        return told.result()

    began = clock()
    time.sleep(seconds)
    return (clock() - began) / (seconds / seconds_between_looks(HOSTS, SILENCE_SECONDS)) / HOSTS


def sleeping_spec(folder: Path) -> EncodingSpec:
    """A run that hosts are told of and do nothing for."""
    job = parse_job(job_of(folder, folder, folder, checkpoint="s3://bucket/prefix", source__uri="s3://bucket/rows"))
    return EncodingSpec(run=RUN, job=job, fields=(), weights="w" * 32, declared="d" * 32)


def _on_ray(folder: Path, size: int, groups: int) -> dict[str, float]:
    """In a process of its own, on a Ray cluster that ends with it."""
    told = folder / "ray.json"
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.benchmarks.cluster", str(folder), str(size), str(groups), str(told)]
    subprocess.run(command, env=env, check=True, timeout=600)
    found: dict[str, float] = json.loads(told.read_text())
    return found


def _ray_main(folder: Path, size: int, groups: int, told: Path) -> None:
    import ray  # noqa: PLC0415

    from tasks.adapters.engines.ray_engine import RayCluster  # noqa: PLC0415

    ray.init(
        num_cpus=HOSTS,
        resources={"host": HOSTS},
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
        configure_logging=False,
    )
    settings = RayEngineSettings(resources={"host": 1.0}, hosts=HOSTS)
    connect = partial(RayCluster, settings, run=RUN, actor_class=SleepingHost)
    told.write_text(json.dumps(drive(sleeping_spec(folder), connect, size, groups, whole=True)))
    ray.shutdown()


if __name__ == "__main__":
    _ray_main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
