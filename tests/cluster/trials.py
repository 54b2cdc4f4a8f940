"""A job on the hosts of a cluster, something that breaks in the middle of it, and an audit of what is there in the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.builders.kitestring import make_job, write_rows
from tests.builders.models import make_tiny_model
from tests.cluster.cluster import JOB_SECONDS, Cluster, readme_command
from tests.cluster.machines import HUB

FILES, ROWS = 4, 1_000  # rows of a file
SHARD_ROWS = 250
GONE_SECONDS = 30.0  # in which every rank of a run is gone that nobody leads any more
CUT_SECONDS = 60.0  # the same behind a cable that is pulled
ALIKE = 1e-3  # of two components; a batch's padding changes the last digits
ACTOR, RAYLET, DRIVER = "HostActor", "raylet/raylet", "-m flows run"


@dataclass(kw_only=True)
class Outcome:
    """One trial."""

    fault: str
    seed: int
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    left: int = 0  # processes of ranks on any machine after the end
    gone: float = 0.0  # seconds until the ranks of a dead driver were gone
    seconds: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.error or self.lost or self.doubled or self.wrong or self.left or self.gone > CUT_SECONDS)


class Trials:
    """A corpus on the shared disk, and the jobs that embed it, each into a collection and a checkpoint of its own."""

    def __init__(self, cluster: Cluster, hosts: Sequence[str]) -> None:
        self.cluster, self.hosts = cluster, tuple(hosts)
        self.model = make_tiny_model(cluster.folder / "model")
        self.keys = set[str]()
        for bucket in ("lake", "vectors"):
            assert cluster.s3("create_bucket", Bucket=bucket) is not None
        for number in range(FILES):
            path = cluster.folder / "rows" / f"{number}.parquet"
            self.keys |= set(write_rows(path, number * ROWS, (number + 1) * ROWS, row_group=SHARD_ROWS))
            cluster.s3("upload_file", Filename=str(path), Bucket="lake", Key=f"rows/{number}.parquet")
        self.truth: dict[str, list[float]] = {}

    def job(self, name: str, **settings: Any) -> Path:
        where = {
            "source__uri": "s3://lake/rows/*.parquet",
            "checkpoint": f"s3://vectors/{name}",
            "target__uri": self.cluster.milvus.uri,
            "target__collection": name,
            "shards__rows": SHARD_ROWS,
            "compute__processes": 1,
        }
        return self.cluster.job(make_job(self.cluster.folder, self.model, **where, **settings), name)

    def learn(self) -> None:
        """What every later collection has to be: what one host makes of the corpus undisturbed, by the README's commands."""
        self.job("lake")
        command = f"cd {self.cluster.folder} && {readme_command(HUB, 'kitestring run')} --set compute.engine.hosts=1"
        said = self.cluster.net.run(HUB, ["bash", "-c", command], self.cluster.env, seconds=JOB_SECONDS)
        assert "verified" in said, said
        found = self.cluster.rows("lake")
        self.truth = dict(found)
        assert len(found) == len(self.truth) == len(self.keys)
        self.wait_until_no_rank()

    def play(self, fault: str, seed: int) -> Outcome:
        """Break something, let the next run finish where this one did not, look at what is there, and put all right again."""
        outcome, began = Outcome(fault=fault, seed=seed), time.monotonic()
        name = f"{fault.replace(' ', '_')}_{seed}"
        try:
            self._play(outcome, self.job(name, compute__engine={"kind": "ray"}), random.Random(f"{fault} {seed}"))
            self._audit(outcome, name)
        except (AssertionError, OSError) as error:
            outcome.error = str(error)[-2_000:]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _play(self, outcome: Outcome, job: Path, draw: random.Random) -> None:
        cluster = self.cluster
        run = cluster.begin("run", job, log=job.stem)
        victim = draw.choice(self.hosts)
        cluster.wait(lambda: run.poll() is not None or cluster.ranks(victim), f"ranks on {victim}")
        time.sleep(draw.uniform(0, 8))
        if run.poll() is not None:
            outcome.notes.append("missed")
        mend = FAULTS[outcome.fault](cluster, victim)
        cluster.wait(lambda: run.poll() is not None, "the run's end", 300)
        if run.returncode:
            outcome.gone = self.wait_until_no_rank()
        mend()
        if run.returncode:
            outcome.notes.append(f"a second run after {run.returncode}")
            cluster.kitestring("run", job)

    def _audit(self, outcome: Outcome, collection: str) -> None:
        found = self.cluster.rows(collection)
        counted = Counter(key for key, _ in found)
        outcome.lost = len(self.keys - counted.keys())
        outcome.doubled = sum(count - 1 for count in counted.values())
        outcome.wrong = sum(key not in self.truth or not alike(vector, self.truth[key]) for key, vector in found)
        self.wait_until_no_rank()
        outcome.left = sum(len(self.cluster.ranks(name)) for name in self.cluster.net.names)

    def wait_until_no_rank(self) -> float:
        """Until the processes of all launches are gone, everywhere; seconds."""
        names = self.cluster.net.names
        return self.cluster.wait(lambda: not any(self.cluster.ranks(name) for name in names), "ranks are gone", CUT_SECONDS + 10)


def alike(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and max(abs(a - b) for a, b in zip(one, other, strict=True)) < ALIKE


Mend = Callable[[], None]


def nothing(cluster: Cluster, victim: str) -> Mend:
    return lambda: None


def kill_actor(cluster: Cluster, victim: str) -> Mend:
    cluster.kill(victim, ACTOR)
    return lambda: None


def kill_raylet(cluster: Cluster, victim: str) -> Mend:
    cluster.kill(victim, RAYLET)
    return lambda: rejoin(cluster, victim)


def lose(cluster: Cluster, victim: str) -> Mend:
    """A power cut, for as long as the run lasts."""
    cluster.net.lose(victim)

    def mend() -> None:
        cluster.net.back(victim)
        cluster.join(victim)

    return mend


def cut(cluster: Cluster, victim: str) -> Mend:
    """The cable, for 20 s: long enough for the others to give the host up, and it finishes late."""
    cluster.net.cut(victim)
    time.sleep(20)
    cluster.net.mend(victim)
    return lambda: rejoin(cluster, victim)


def kill_driver(cluster: Cluster, victim: str) -> Mend:
    assert cluster.kill(HUB, DRIVER)
    return lambda: None


def silence_s3(cluster: Cluster, victim: str) -> Mend:
    answer = cluster.pause_s3()
    time.sleep(20)
    answer()
    return lambda: None


def rejoin(cluster: Cluster, victim: str) -> None:
    """Whatever Ray still runs there is ended first: a node that the head gave up ends itself, in time."""
    cluster.wait(lambda: not cluster.kill(victim, "ray"), "Ray's processes are gone", 20)
    cluster.join(victim)


FAULTS: dict[str, Callable[[Cluster, str], Mend]] = {
    "none": nothing,
    "kill actor": kill_actor,
    "kill raylet": kill_raylet,
    "lose host": lose,
    "cut and mend": cut,
    "kill driver": kill_driver,
    "S3 silent for 20 s": silence_s3,
}
