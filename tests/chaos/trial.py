"""One trial: a job of its own, the runs of it, and what they are doing at a moment."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import psutil
import yaml

from tests.builders.inprocess import flows_in_process
from tests.builders.kitestring import Kitestring, make_job
from tests.chaos.corpus import FILES, PART_ROWS, UNSAVED_ROWS, write_corpus
from tests.chaos.house import BUCKET, House, environment
from tests.chaos.launched import RUN_SECONDS, Ended, Launched, Stuck, role_of, still_there
from tests.chaos.raw import client_of
from tests.servers.prefect import ROOT

GONE_SECONDS = 30
MARK = "CHAOS_TRIAL"
STAGES = ("start", "encode", "seal", "load", "verify")
Stage = Literal["start", "encode", "seal", "load", "verify"]
ENTRY = re.compile(r"/loads/[^/]+/[0-9a-f]{32}(\.intent)?\.json$")


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
    mode: str = "append"
    source: Path = Path()
    command: str = "run"
    retained: list[Path] = field(default_factory=list)  # files that left an append: their rows stay
    either: list[Path] = field(default_factory=list)  # files of which all rows may be there, or none
    mended: bool = False  # what the model could not stand was tried again and has vectors, where its shard still says so
    damaged_documents: int = 0
    other_encoders: set[str] = field(default_factory=set)  # fingerprints that the audit does not look at
    staging: Path | None = None
    told: str = ""  # what the next run has to say
    judged: bool = False  # no audit is needed
    paired: bool = False  # with another fault: what each promises of the run that it hits alone is not asked for
    second: Callable[[Trial], bool] | None = None  # hits the run that the first one has hit, before its end is waited for
    second_struck: bool = True
    keeps_target: bool = False  # a pair has chosen it
    completed: bool = False
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
        self.source = self.folder / "rows"
        self._shared: Launched | None = None
        write_corpus(self.source, files=self.files)

    @property
    def files_now(self) -> list[Path]:
        """The files of the source."""
        return sorted(self.source.glob("*.parquet"))

    @property
    def on_server(self) -> bool:
        return self.target.startswith("http")

    @property
    def opens(self) -> str:
        """The target as any process may open it: a path may be relative to the folder in which the runs work."""
        return self.target if self.on_server else str(self.folder / self.target)

    def use_server(self) -> None:
        """A Milvus server, where no run has chosen otherwise."""
        if not self.on_server and not self.runs and not self.keeps_target:
            self.target = self.house.milvus.uri

    def use_proxy(self) -> None:
        """The server behind the proxy; the same where a pair has chosen it."""
        self.target = self.house.before_milvus.uri

    def draw_mode(self) -> None:
        """Append or mirror."""
        if self.mode == "append" and not self.runs and self.rng.random() < 0.5:
            self.mode = "mirror"
            self.settings |= {"target__mode": "mirror", "target__allow_shrink": True}
        self.notes.append(self.mode)

    def insist(self, holds: object, otherwise: str) -> None:
        """What a fault promises of a run that nothing else has hit."""
        if not holds and not self.paired:
            raise Stuck(otherwise)

    def change(self) -> bool:
        """Something was changed: a run is owed."""
        self.again = True
        return True

    def forget_collection(self) -> None:
        """Somebody drops it."""
        if not self.on_server:
            shutil.rmtree(self.opens)
            return
        with client_of(self.opens) as client:
            real = client.describe_alias(self.collection)["collection_name"]
            client.drop_alias(self.collection)
            client.drop_collection(real)

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
        """`kitestring run JOB`, or another command, under way; within a pair, the run that the other fault has hit, if it goes on."""
        shared, self._shared = self._shared, None
        if shared and not (arguments or job or env) and not self.ends_within(shared, 1.0):
            return shared
        number = len(list(self.folder.glob("run-*.err")))
        out, err = self.folder / f"run-{number}.out", self.folder / f"run-{number}.err"
        words = [str(a) for a in arguments] or [self.command, str(job or self.job()), "--json"]
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
        """Wait for a run, and keep how it ended; in a pair, the second fault hits it before."""
        second, self.second = self.second, None
        if second:
            self._shared = launched
            self.second_struck = second(self)
            self._shared = None
        ended = launched.finish(max(seconds, RUN_SECONDS) if second else seconds)
        self.runs.append(ended)
        return ended

    def run(self, *arguments: object, **how: Any) -> Ended:
        """A run from its start to its end."""
        return self.end(self.start(*arguments, **how))

    def aside_run(self, *arguments: object, **how: Any) -> Ended:
        """A command to its end that no fault is to hit."""
        second, self.second = self.second, None
        try:
            return self.run(*arguments, **how)
        finally:
            self.second = second

    def complete(self) -> None:
        """A run that ends well, before anything is changed; once in a trial, and in this process: nothing is to hit it, and it starts nothing."""
        if self.completed:
            return
        with patch.dict(os.environ, self.environment), flows_in_process(self.house.prefect) as run_flow:
            try:
                run_flow(yaml.safe_load(self.job().read_text()))
            except Exception as error:
                raise Stuck(f"an unbroken run failed: {type(error).__name__}: {error}") from error
        self.runs.append(Ended(code=0, out="", err=""))
        self.completed = True

    def ask(self, command: str, *how: str) -> Ended:
        """A command of the trial's job that encodes nothing, in this process: it takes no seconds to start."""
        with chdir(self.folder):  # as the runs: a path in the job may be relative
            ended = Kitestring(folder=self.folder, env=self.environment).here(command, self.job(), *how)
        return Ended(code=ended.code, out=ended.out, err=ended.err)

    # What is going on

    def is_entry(self, key: str) -> bool:
        """A ledger entry or an intent, and not a proof, a root or an import."""
        return bool(ENTRY.search(key)) and "/damaged/" not in key

    def loaded(self) -> int:
        """Shards of which the ledger says that all rows were acknowledged."""
        return sum(self.is_entry(key) and not key.endswith(".intent.json") for key in self.house.keys(self.prefix))

    def state(self) -> dict[str, int]:
        """Parts, seals and loads in the store."""
        keys = self.house.keys(self.prefix)
        return {
            "part": sum("/part-" in key for key in keys),
            "seal": sum(key.endswith("/seal.json") for key in keys),
            "load": self.loaded(),
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

    def processes_of(self, run: Launched) -> list[psutil.Process]:
        """Those that have to go with a run: all, or in a pair, where another may be under way, its descendants."""
        if not self.paired:
            return self.processes()
        with suppress(psutil.NoSuchProcess):
            flow = psutil.Process(run.pid)
            return [flow, *flow.children(recursive=True)]
        return []

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
        left = still_there(processes)
        while left and time.monotonic() < began + GONE_SECONDS:
            time.sleep(0.02)
            left = still_there(left)
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
