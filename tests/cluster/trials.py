"""A job on the hosts of a cluster, something that breaks in the middle of it, and an audit of what is there in the end."""

from __future__ import annotations

import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.builders.held_model import SLOW, make_held_model
from tests.builders.kitestring import write_rows
from tests.builders.models import make_tiny_model
from tests.cluster.cluster import JOB_SECONDS, Cluster
from tests.cluster.deployed import PrefectOnHub
from tests.cluster.engines import RAY, OnMachines, readme_command
from tests.cluster.faults import CUT_SECONDS, DRIVER, FAULTS, Run, Strike, heal
from tests.cluster.machines import HUB
from tests.cluster.outcome import Outcome

FILES, ROWS = 4, 1_000  # rows of a file
SHARD_ROWS, SMALL_SHARD_ROWS = 250, 25
SMALL = {"source__uri": "s3://lake/small/*.parquet", "shards__rows": SMALL_SHARD_ROWS}
ROW_SECONDS = 0.02  # of the model that waits and takes its time
ALIKE = 1e-3  # of two components; a batch's padding changes the last digits
RUN_SECONDS = 400.0  # of a trial's first run
LATER = 0.7  # of the trials: something breaks once a shard is sealed, and not while hosts start
OWN_SERVER = ("kill driver", "SIGTERM to the driver")  # Prefect's server has to end with the run, too


class Trials:
    """A corpus on the shared disk, and the jobs that embed it, each into a collection and a checkpoint of its own.

    `one_server`: runs share a Prefect server, where it need not end with them; a series is faster by it.
    """

    def __init__(self, cluster: Cluster, *, one_server: bool = False) -> None:
        self.cluster, self.hosts, self.one_server = cluster, cluster.hosts, one_server
        self.model = make_tiny_model(cluster.folder / "model")
        self.keys = set[str]()
        cluster.make_buckets()
        for number in range(FILES):
            for folder, rows in (("rows", SHARD_ROWS), ("small", SMALL_SHARD_ROWS)):
                path = cluster.folder / folder / f"{number}.parquet"
                self.keys |= set(write_rows(path, number * ROWS, (number + 1) * ROWS, row_group=rows))
        upload = (
            "import boto3, sys; s3 = boto3.client('s3'); [s3.upload_file(p, 'lake', '/'.join(p.split('/')[-2:])) for p in sys.argv[1:]]"
        )
        cluster.python(HUB, upload, *sorted(path for folder in ("rows", "small") for path in (cluster.folder / folder).iterdir()))
        self.truth: dict[str, list[float]] = {}

    @cached_property
    def prefect(self) -> PrefectOnHub:
        server = PrefectOnHub(self.cluster)
        server.start()
        return server

    def job(self, name: str, **settings: Any) -> Path:
        return self.cluster.job_in_s3(name, self.model, shard_rows=SHARD_ROWS, **settings)

    def learn(self, kept: Path | None = None) -> None:
        """What every later collection has to be: what one host makes of the corpus undisturbed, by the README's commands.

        `kept`: a file of an earlier series, whose corpus and model were the same; written where there is none.
        """
        if kept and kept.exists():
            self.truth = json.loads(kept.read_text())
            return
        self.job("lake")
        command = f"cd {self.cluster.folder} && {readme_command(HUB, 'kitestring run')} --set compute.engine.hosts=1"
        said = self.cluster.net.run(HUB, ["bash", "-c", command], self.cluster.env, seconds=JOB_SECONDS)
        assert "verified" in said, said
        found = self.cluster.rows("lake")
        self.truth = dict(found)
        assert len(found) == len(self.truth) == len(self.keys)
        if kept:
            kept.write_text(json.dumps(self.truth))
        self.wait_until_no_rank()

    def play(self, fault: str, seed: int, engine: OnMachines = RAY, hosts: int | None = None) -> Outcome:
        """Break something, let the next run finish where this one did not, look at what is there, and put all right again."""
        outcome = Outcome(fault=fault, seed=seed, engine=engine.kind, hosts=hosts or len(self.hosts))
        trial, began = Trial(self, outcome, engine), time.monotonic()
        try:
            trial.play()
            self._audit(outcome, trial.name)
        except (AssertionError, OSError) as error:
            outcome.error = str(error)[-2_000:] + "".join(f"\n{run}: {said[-1_500:]}" for run, said in trial.said().items())
        finally:
            self.cluster.kill(HUB, *DRIVER)
            self.wait_until_no_rank_or_say(outcome)
            heal(self.cluster, broken=trial.broken)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _audit(self, outcome: Outcome, collection: str) -> None:
        found = self.cluster.rows(collection)
        counted = Counter(key for key, _ in found)
        outcome.lost = len(self.keys - counted.keys())
        outcome.doubled = sum(count - 1 for count in counted.values())
        outcome.wrong = sum(key not in self.truth or not alike(vector, self.truth[key]) for key, vector in found)

    def wait_until_no_rank(self) -> float:
        """Until the processes of all launches are gone, everywhere; seconds."""
        names = self.cluster.net.names
        return self.cluster.wait(lambda: not any(self.cluster.ranks(name) for name in names), "ranks are gone", CUT_SECONDS + 10)

    def wait_until_no_rank_or_say(self, outcome: Outcome) -> None:
        with contextlib.suppress(AssertionError):
            self.wait_until_no_rank()
        outcome.left = sum(len(self.cluster.ranks(name)) for name in self.cluster.net.names)


class Trial:
    """One of them under way."""

    def __init__(self, trials: Trials, outcome: Outcome, engine: OnMachines) -> None:
        self.trials, self.cluster, self.outcome, self.engine = trials, trials.cluster, outcome, engine
        self.name = "_".join([*outcome.fault.replace(".", "").split(), engine.kind, str(outcome.seed)])
        self.draw = random.Random(f"{outcome.fault} {engine.kind} {outcome.seed}")
        self.broken: tuple[str, ...] = ()  # hosts to be booted anew
        self.logs: list[str] = []

    def play(self) -> None:
        special = {"host joins": self._host_joins, "slow host": self._slow_host, "other weights": self._other_weights}
        with special[self.outcome.fault]() if self.outcome.fault in special else contextlib.nullcontext() as settings:
            more = self._loading_by_hosts() if FAULTS[self.outcome.fault].loads else settings or {}
            job = self.trials.job(self.name, compute__engine={**self.engine.settings, "hosts": self.outcome.hosts}, **more)
            run = self._begin(job)
            if self.outcome.fault not in special:
                self._strike(run)
            elif self.outcome.fault == "host joins":
                self._wait_for_ranks(run)
                self.cluster.join(self.broken[0])
            elif self.outcome.fault == "slow host":
                self.outcome.of_ideal = self._of_ideal(run)
        self._finish(run, job)

    def said(self) -> dict[str, str]:
        """The logs of its runs."""
        logs = {name: self.cluster.net.folder / f"{HUB}-{name}.log" for name in self.logs}
        return {name: path.read_text(errors="replace") for name, path in logs.items() if path.exists()}

    def _begin(self, job: Path) -> Run:
        if self.outcome.fault == "cancel in the UI":
            return self.trials.prefect.run(job)
        return self._run(job)

    def _run(self, job: Path, number: int = 1) -> Run:
        self.logs.append(f"{self.name}-{number}")
        env = {"PREFECT_HOME": f"/tmp/prefect-{number}"}
        if self.trials.one_server and (number > 1 or self.outcome.fault not in OWN_SERVER):
            env |= self.trials.prefect.env  # a server of the run's own takes a third of its start
        run: Run = self.cluster.begin("run", job, log=self.logs[-1], env=env)
        return run

    def _wait_for_ranks(self, run: Run) -> list[str]:
        """The hosts that have any."""
        there = list[str]()

        def look() -> bool:
            there[:] = [host for host in self.cluster.hosts if self.cluster.ranks(host)]
            return bool(there) or run.poll() is not None

        self.cluster.wait(look, "ranks on a host", 300)
        return there

    def _strike(self, run: Run) -> None:
        fault, other = FAULTS[self.outcome.fault], None
        if self.outcome.fault == "two drivers":
            time.sleep(self.draw.uniform(0, 5))
            other = self._run(self.cluster.folder / f"{self.name}.yaml", 2)
        there = self._wait_for_ranks(run)
        if fault.loads:
            self.cluster.wait(lambda: self._loads() or run.poll() is not None, "a host that loads", 300)
            there = [name for name in self._loads() if self.cluster.ranks(name)]
        elif self.draw.random() < LATER:
            self.cluster.wait(lambda: self._seals() or run.poll() is not None, "the first seal", 300)
            there = self._wait_for_ranks(run)
            self.outcome.notes.append("after the first seal")
        time.sleep(self.draw.uniform(0, 4))
        if run.poll() is not None or not there:
            self.outcome.notes.append("missed")
            return
        victim = self.draw.choice(there)
        self.broken = (victim,) if fault.least > 1 and self.outcome.fault != "kill host process" else ()
        self.outcome.notes.append(victim)
        strike = Strike(cluster=self.cluster, engine=self.engine, run=run, victim=victim, draw=self.draw)
        self.outcome.gone = fault.strike(strike)
        if other is not None:
            self.cluster.wait(lambda: other.poll() is not None, "the other run's end", RUN_SECONDS)
            assert other.returncode == 0, f"the other run ended with {other.returncode}"

    def _seals(self) -> dict[str, list[float]]:
        """When each host has sealed shards: by the log of S3, since to ask it would take a second of a processor each time."""
        log = (self.cluster.net.folder / f"{HUB}-s3.log").read_text(errors="replace")
        found = re.findall(rf'^(\S+) - - \[(.*?)\] "PUT /vectors/{self.name}/\S*seal\.json\S* \S+ 200', log, re.MULTILINE)
        times = dict[str, list[float]]()
        for host, when in found:
            times.setdefault(host, []).append(datetime.strptime(when, "%d/%b/%Y %H:%M:%S").astimezone().timestamp())
        return times

    def _loads(self) -> list[str]:
        """The hosts that have begun to load, by the same log."""
        log = (self.cluster.net.folder / f"{HUB}-s3.log").read_text(errors="replace")
        addresses = set(re.findall(rf'^(\S+) - - \[.*?\] "PUT /vectors/{self.name}/\S*/loads/\S*intent\.json\S* ', log, re.MULTILINE))
        return [host for host in self.cluster.hosts if self.cluster.net.address(host) in addresses]

    def _loading_by_hosts(self) -> dict[str, Any]:
        """Hosts load small shards while they encode for half a minute."""
        slow = self._on_held_model(held := self._held(), row_seconds=ROW_SECONDS)
        held.unlink()
        return slow | SMALL | {"target__load_from": "hosts"}

    def _finish(self, run: Run, job: Path) -> None:
        self.cluster.wait(lambda: run.poll() is not None, "the run's end", RUN_SECONDS)
        if not run.returncode:
            return
        self.outcome.gone = max(self.outcome.gone, self.trials.wait_until_no_rank())
        self.outcome.notes.append(f"a second run after {run.returncode}")
        assert FAULTS[self.outcome.fault].is_end, f"the run ended with {run.returncode}"
        heal(self.cluster, broken=self.broken)
        again = self._run(job, 3)
        self.cluster.wait(lambda: again.poll() is not None, "the second run's end", RUN_SECONDS)
        assert again.returncode == 0, f"the second run ended with {again.returncode}"

    @contextlib.contextmanager
    def _host_joins(self) -> Iterator[dict[str, Any]]:
        """One is away until the others are at work; the run is held so that there is work left."""
        (self.broken, held) = (self.draw.choice(self.cluster.hosts),), self._held()
        self.cluster.net.lose(self.broken[0])
        self.cluster.net.back(self.broken[0])
        time.sleep(12)  # until Ray's head has missed it
        yield self._on_held_model(held, row_seconds=0.0)
        at_work = held.with_name(f"{held.name}.{self.broken[0]}")  # it has begun to encode, and is held as the others are
        self.outcome.notes.append(f"{self.cluster.wait(at_work.exists, 'the host that joined encodes', 200):.0f} s until it encodes")
        held.unlink()

    @contextlib.contextmanager
    def _slow_host(self) -> Iterator[dict[str, Any]]:
        self.broken = (self.draw.choice(self.cluster.hosts),)
        self.cluster.net.run(self.broken[0], ["touch", SLOW])
        yield self._on_held_model(self._held(), row_seconds=ROW_SECONDS) | SMALL

    @contextlib.contextmanager
    def _other_weights(self) -> Iterator[dict[str, Any]]:
        """The model's folder is another's on one host; it is left out by name."""
        self.broken = (self.draw.choice(self.cluster.hosts),)
        other = self.cluster.folder / "other-model"
        if not other.exists():
            make_tiny_model(other, seed=8)
        self.cluster.net.run(self.broken[0], ["mount", "--bind", other, self.trials.model])
        yield {}
        left_out = f"host {self.broken[0]} is left out: "
        self.cluster.wait(lambda: any(left_out in said for said in self.said().values()), left_out, 300)

    def _held(self) -> Path:
        return self.cluster.folder / f"{self.name}-held"

    def _on_held_model(self, held: Path, *, row_seconds: float) -> dict[str, Any]:
        model = make_held_model(self.cluster.folder / f"{self.name}-model", held, rows=0, row_seconds=row_seconds)
        # Nothing is measured when it is loaded, or the first host would be held before it is ready for work.
        return {"encoder__model": str(model), "encoder__trust_remote_code": True, "compute__batch_tokens": 1_024}

    def _of_ideal(self, run: Run) -> float:
        """Let a run go whose hosts are all ready, one of them at a tenth of the speed; its time until the last seal over the best.

        The best is what the hosts would have taken had each gone on at the rate that it had until its own last seal. Other programs on this
        machine slow all of them, and say nothing about how the work was divided.
        """
        held = self._held()
        ready = lambda: len(list(held.parent.glob(f"{held.name}.*"))) >= self.outcome.hosts or run.poll() is not None  # noqa: E731
        self.cluster.wait(ready, "every host is ready", 300)
        began = time.time()
        held.unlink()
        self.cluster.wait(lambda: run.poll() is not None, "the run's end", RUN_SECONDS)
        seals = self._seals()
        taken = max(map(max, seals.values())) - began
        best = sum(map(len, seals.values())) / sum(len(each) / max(max(each) - began, 1) for each in seals.values())
        waiting = len(self.trials.keys) * ROW_SECONDS / (self.outcome.hosts - 0.9)
        self.outcome.notes.append(f"{taken:.0f} s, {best:.0f} s at best at these rates, {waiting:.0f} s of which the model waits")
        return round(taken / best, 2)


def alike(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and max(abs(a - b) for a, b in zip(one, other, strict=True)) < ALIKE
