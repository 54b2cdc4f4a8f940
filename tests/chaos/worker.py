"""Faults of a run that a Prefect worker carries out: the worker dies, or a person cancels in the UI."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import yaml

from tests.chaos.house import POOL
from tests.chaos.launched import RUN_SECONDS, Launched, Stuck
from tests.chaos.trial import STAGES, Stage, Trial
from tests.chaos.troubles import widened
from tests.servers.prefect import ROOT

CANCEL_SECONDS = 60


@dataclass(kw_only=True)
class Deployed:
    """A flow run that a worker is carrying out."""

    trial: Trial
    id: str
    worker: Launched

    @property
    def state(self) -> str:
        return self.trial.house.prefect.state(self.id)

    def others(self) -> list[psutil.Process]:
        """Every process but the worker's."""
        return [p for p in self.trial.processes() if p.pid != self.worker.pid]

    def wait_until_gone(self, seconds: float = RUN_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while self.others():
            if time.monotonic() > deadline:
                raise Stuck(f"still there after {seconds:.0f} s: {[' '.join(p.cmdline())[:100] for p in self.others()]}")
            time.sleep(0.1)


@contextmanager
def _deployed(trial: Trial) -> Iterator[Deployed]:
    server = trial.house.deployed
    document = yaml.safe_load(trial.job().read_text())
    run = server.run_deployment("embed-corpus/backfill", {"job": document})
    out = trial.folder / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--limit", "1"]
    with out.open("wb") as log:
        env = {**trial.environment, **{k: v for k, v in server.env.items() if k in ("PREFECT_API_URL", "PYTHONPATH")}}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield Deployed(trial=trial, id=run, worker=Launched(process=process, out=out, err=out))
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def worker_dies(trial: Trial) -> bool:
    """kill -9 of the worker: its run may go on to its end, or stop; then nothing is left of it."""
    with _deployed(trial) as run:
        struck = _reach(trial, run)
        trial.kill([psutil.Process(run.worker.pid)] if struck else [])
        run.worker.process.wait(10)
        run.wait_until_gone()
    trial.again = True
    return struck


def cancelled(trial: Trial) -> bool:
    """Cancelled as the UI does it, in each stage in turn: every process is gone in seconds, and the run is Cancelled."""
    stage = STAGES[trial.seed % len(STAGES)]
    widened(trial, stage)
    with _deployed(trial) as run:
        struck = _reach(trial, run, stage)  # type: ignore[arg-type]
        everything = run.others()
        began = time.monotonic()
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
        if struck:
            trial.house.prefect.request(f"/flow_runs/{run.id}/set_state", state)
            trial.kills += 1
        run.wait_until_gone(CANCEL_SECONDS)
        if struck:
            trial.watch_them_go(everything, since=began)
            trial.house.prefect.wait(run.id)
            trial.notes.append(f"then {run.state}")
    trial.again = True
    return struck


def _reach(trial: Trial, run: Deployed, stage: Stage | None = None) -> bool:
    """A random moment, counted from when the worker has started the flow; False: the flow had ended by then."""
    if not trial.until(lambda: run.state in ("RUNNING", "COMPLETED"), run.worker):
        raise Stuck(f"the worker ended: {run.worker.out.read_text()[-800:]}")
    flow = Launched(process=_Followed(trial, run), out=run.worker.out, err=run.worker.err)  # type: ignore[arg-type]
    return trial.reach(flow, stage)


class _Followed:
    """A flow that another process started, as far as it is asked: whether it has ended."""

    def __init__(self, trial: Trial, run: Deployed) -> None:
        self._trial, self._run, self._looked = trial, run, 0.0

    def poll(self) -> int | None:
        return 0 if self._run.state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

    def wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.poll() is not None:
                return 0
            time.sleep(min(0.1, max(0.0, deadline - time.monotonic())))
        raise subprocess.TimeoutExpired("flow", seconds)
