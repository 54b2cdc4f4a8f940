"""One trial: a job of its own, the runs of it, and what they are doing at a moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml

from tests.chaos.corpus import FILES, PART_ROWS, UNSAVED_ROWS, write_corpus
from tests.chaos.house import BUCKET, House, environment
from tests.flows.kitestring import make_job
from tests.servers.prefect import ROOT

RUN_SECONDS = 240
GONE_SECONDS = 30
MARK = "CHAOS_TRIAL"
STAGES = ("start", "encode", "seal", "load", "verify")
Stage = Literal["start", "encode", "seal", "load", "verify"]
ROLES = {"guard": "tasks.adapters.guard", "agent": "tasks.worker.agent", "flow": "flows"}


class Stuck(Exception):
    """A run did not end in time, or did not come to where it should."""


class Skipped(Exception):
    """This machine cannot do that; says why."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


@dataclass(kw_only=True)
class Launched:
    """A run under way."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def finish(self, seconds: float = RUN_SECONDS) -> Ended:
        """Wait for it."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Stuck(f"a run has not ended in {seconds} s:\n{self.err.read_text()[-1500:]}") from None
        return Ended(code=code, out=self.out.read_text(), err=self.err.read_text())


@dataclass(kw_only=True)
class Trial:
    """A corpus, a job, an environment with a mark by which every process is found again."""

    house: House
    folder: Path
    seed: int
    fault: str = ""
    target: str = ""  # a Milvus server, or left empty: a Lite file
    settings: dict[str, Any] = field(default_factory=dict)
    server: bool = True  # the house's Prefect server; without it each run starts its own
    files: int = FILES
    notes: list[str] = field(default_factory=list)
    runs: list[Ended] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # seconds from each break to the end of the last process it had to end
    kills: int = 0
    again: bool = False  # a run is owed, also where the one before ended well
    wrap: tuple[str, ...] = ()  # put before the command
    more_environment: dict[str, str] = field(default_factory=dict)
    replaced: int = 0  # shards of files that changed: their seals stay
    extra_allowed: int = 0  # rows beyond those that a kill may cost

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.fault} {self.seed}")
        self.mark = f"{self.seed}-{os.getpid()}-{time.monotonic_ns()}"
        self.prefix = f"t{self.mark}"
        self.collection = f"chaos_{self.mark.replace('-', '_')}"
        self.target = self.target or str(self.folder / "rows.db")
        self.count = self.folder / "encoded.txt"
        self.home = self.folder / "home"
        self.tmp.mkdir(parents=True, exist_ok=True)
        write_corpus(self.source, files=self.files)

    @property
    def source(self) -> Path:
        return self.folder / "rows"

    def move(self) -> None:
        """Another machine: nothing of the old one's home and scratch."""
        self.home = self.folder / "another home"
        self.tmp.mkdir(parents=True)

    @property
    def tmp(self) -> Path:
        return self.home / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        prefect = self.house.prefect.env if self.server else {"PREFECT_HOME": str(self.home / "prefect"), "DO_NOT_TRACK": "1"}
        told = {name: value for name, value in prefect.items() if name.startswith(("PREFECT_", "DO_NOT"))}
        own = {"HOME": str(self.home), "TMPDIR": str(self.tmp), MARK: self.mark, "CHAOS_COUNT": str(self.count)}
        return (
            environment()
            | {"PYTHONPATH": str(ROOT)}
            | self.house.s3_environment
            | told
            | own
            | {"HF_HUB_OFFLINE": "1"}
            | self.more_environment
        )

    def job(self, **settings: Any) -> Path:
        """The job file, which every run of the trial is given."""
        ours: dict[str, Any] = {
            "checkpoint": f"s3://{BUCKET}/{self.prefix}",
            "target__uri": self.target,
            "target__collection": self.collection,
            "source__metadata": ["n"],
            "encoder__trust_remote_code": True,
            "compute__unsaved_rows": UNSAVED_ROWS,
            "compute__batch_rows": PART_ROWS,
            "shards__rows": 100,
            "failures__max_quarantined": 0.1,
        }
        path = self.folder / f"job-{abs(hash(repr(settings))) % 9999}.yaml"
        path.write_text(yaml.safe_dump(make_job(self.folder, self.house.model, **{**ours, **self.settings, **settings})))
        return path

    # Runs

    def start(self, *arguments: object, job: Path | None = None, env: Mapping[str, str] | None = None) -> Launched:
        """`kitestring run JOB`, or another command, under way."""
        number = len(list(self.folder.glob("run-*.err")))
        out, err = self.folder / f"run-{number}.out", self.folder / f"run-{number}.err"
        words = [str(a) for a in arguments] or ["run", str(job or self.job()), "--json"]
        with out.open("wb") as told, err.open("wb") as said:
            process = subprocess.Popen(
                [*self.wrap, sys.executable, "-m", "flows", *words],
                cwd=self.folder,
                env={**self.environment, **(env or {})},
                stdout=told,
                stderr=said,
            )
        return Launched(process=process, out=out, err=err)

    def end(self, launched: Launched, seconds: float = RUN_SECONDS) -> Ended:
        """Wait for a run, and keep how it ended."""
        ended = launched.finish(seconds)
        self.runs.append(ended)
        return ended

    def run(self, *arguments: object, **how: Any) -> Ended:
        """A run from its start to its end."""
        return self.end(self.start(*arguments, **how))

    # What is going on

    def state(self) -> dict[str, int]:
        """Parts, seals and loads in the store."""
        keys = self.house.keys(self.prefix)
        return {
            "part": sum("/part-" in key for key in keys),
            "seal": sum(key.endswith("/seal.json") for key in keys),
            "load": sum("/loads/" in key and not key.endswith("verified.json") for key in keys),
        }

    def reach(self, launched: Launched, stage: Stage | None = None) -> bool:
        """Wait for a random moment of a stage (of any, if none is given); False: the run ended before it came."""
        stage = stage or self.rng.choice(STAGES)
        after, wanted = self._moment(stage)
        self.notes.append(f"{stage}: {wanted or 'after'} + {after:.2f} s")
        reached = self.until(lambda: all(self.state()[kind] >= count for kind, count in wanted.items()), launched) if wanted else True
        return reached and not self.ends_within(launched, after)

    def _moment(self, stage: Stage) -> tuple[float, dict[str, int]]:
        rng, shards = self.rng, self.files
        if stage == "start":
            return rng.uniform(0.2, 10), {}
        if stage == "verify":
            return rng.uniform(0, 0.8), {"load": shards}
        kind, most = {"encode": ("part", 3 * shards - 1), "seal": ("seal", shards), "load": ("load", shards)}[stage]
        return rng.uniform(0, 0.15), {kind: rng.randint(1, most)}

    def ends_within(self, launched: Launched, seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            launched.process.wait(seconds)
        return launched.over

    def until(self, true: Callable[[], object], launched: Launched, seconds: float = RUN_SECONDS) -> bool:
        """Wait until something holds; False where the run ended first."""
        deadline = time.monotonic() + seconds
        while not launched.over:
            if true():
                return True
            if time.monotonic() > deadline:
                raise Stuck(f"not there after {seconds} s: {self.notes[-1:]} {self.state()}")
            time.sleep(0.03)
        return False

    # Processes

    def processes(self) -> list[psutil.Process]:
        """Every process that the trial started, whoever its parent is by now."""
        found: list[psutil.Process] = []
        wanted = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, psutil.NoSuchProcess):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    process = psutil.Process(int(folder.name))
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def find(self, role: str) -> list[psutil.Process]:
        """The encoder's processes of a role."""
        return [process for process in self.processes() if role_of(process) == role]

    def kill(self, processes: list[psutil.Process], sign: int = signal.SIGKILL) -> None:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(sign)
        self.kills += 1

    def watch_them_go(self, processes: list[psutil.Process], since: float | None = None) -> list[psutil.Process]:
        """Wait until they are gone, and note how long that took; those that stay."""
        began = time.monotonic() if since is None else since
        left = _still_there(processes)
        while left and time.monotonic() < began + GONE_SECONDS:
            time.sleep(0.02)
            left = _still_there(left)
        self.ends.append(time.monotonic() - began)
        return left

    @property
    def encoded(self) -> int:
        """Rows that the model was given, by its own count."""
        return sum(map(int, self.count.read_text().split())) if self.count.exists() else 0

    def clean(self) -> None:
        """End what is left, so that trials do not disturb each other."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.house.calm()


def _still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and _status(p) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def role_of(process: psutil.Process) -> str:
    """flow, guard, agent or rank; empty for others."""
    try:
        words, name = process.cmdline(), process.name()
    except psutil.NoSuchProcess:
        return ""
    if name.startswith("ks-rank-"):
        return "rank"
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if module == ROLES["guard"]:
        return "guard" if ROLES["agent"] in words else "server's guard"
    return next((role for role, name in ROLES.items() if name == module), "")
