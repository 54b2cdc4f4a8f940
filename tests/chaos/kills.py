"""Faults that end processes: at a random moment of a random stage."""

from __future__ import annotations

import os
import signal
import time

from tests.chaos.launched import RUN_SECONDS, Launched, Stuck
from tests.chaos.trial import Trial

TERM_SECONDS = 30


def nothing(trial: Trial) -> bool:
    """No fault: the audit itself has to find an unbroken run in order."""
    trial.run()
    return True


def kill_flow(trial: Trial) -> bool:
    """kill -9 of the flow's process; every process of the run has to be gone by itself."""
    trial.server = trial.rng.random() < 0.75 or trial.paired  # a quarter with a server of the run's own, which has to go as well
    run = trial.start()
    if not trial.reach(run):
        trial.end(run)
        return False
    kill_run(trial, run)
    return True


def kill_run(trial: Trial, run: Launched) -> None:
    """kill -9 of a run's flow; everything else of it has to go by itself."""
    everything = trial.processes_of(run)
    trial.kill([p for p in everything if p.pid == run.pid])
    trial.end(run)
    trial.watch_them_go(everything)


def terminate_flow(trial: Trial) -> bool:
    """SIGTERM, as Kubernetes sends it: gone within 30 s, and what was sealed is kept."""
    contained = os.geteuid() == 0 and trial.rng.random() < 0.5 and not trial.paired
    if contained:
        trial.wrap = ("unshare", "--pid", "--fork", "--mount-proc")  # a container's first process
    trial.notes.append("as process 1" if contained else "")
    run = trial.start()
    if not trial.reach(run):
        trial.end(run)
        return False
    everything, sealed, began = trial.processes_of(run), trial.state()["seal"], time.monotonic()
    trial.kill([p for p in everything if (p.ppid() if contained else p.pid) == run.pid], signal.SIGTERM)
    trial.end(run, TERM_SECONDS)
    trial.wrap = () if contained else trial.wrap
    trial.watch_them_go(everything, since=began)
    if trial.state()["seal"] < sealed:
        raise Stuck("a seal was lost")
    return True


def kill_guard(trial: Trial) -> bool:
    """kill -9 of the guard."""
    return _kill_roles(trial, "guard")


def kill_agent(trial: Trial) -> bool:
    """kill -9 of torchrun's agent."""
    return _kill_roles(trial, "agent")


def kill_rank(trial: Trial) -> bool:
    """kill -9 of one rank."""
    return _kill_roles(trial, "rank", most=1)


def kill_ranks(trial: Trial) -> bool:
    """kill -9 of all ranks."""
    return _kill_roles(trial, "rank")


def _kill_roles(trial: Trial, role: str, most: int = 99) -> bool:
    """The run may go on with another launch, or end; those of the launch that was hit have to go."""
    run = trial.start()
    stage = trial.rng.choice(("start", "encode", "encode", "seal"))
    there = trial.until(lambda: trial.find(role), run) and trial.reach(run, stage)  # type: ignore[arg-type]
    targets = trial.find(role) if there else []
    if not targets:
        trial.end(run)
        return False
    trial.rng.shuffle(targets)
    launch = [p for kind in ("guard", "agent", "rank") for p in trial.find(kind)]
    trial.kill(targets[:most])
    _note_their_end(trial, run, launch)
    trial.end(run, RUN_SECONDS)
    return True


def _note_their_end(trial: Trial, run: Launched, launch: list) -> None:  # type: ignore[type-arg]
    left = trial.watch_them_go(launch)
    if left and not run.over:
        raise Stuck(f"processes of a launch that was hit are still there: {[p.pid for p in left]}")
