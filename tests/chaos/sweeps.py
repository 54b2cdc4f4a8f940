"""`kitestring gc --delete` beside a run: held, or killed, between its listing and the end of its deleting."""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.corpus import ROWS
from tests.chaos.kills import kill_run
from tests.chaos.launched import RUN_SECONDS, Launched, Stuck
from tests.chaos.trial import ROOT, Trial

HELD_SECONDS = 60  # for as long as a sweep is waited for to come to where it is held
PLACES = ("listed", "marked", "looked", "removed")

# Python imports this first in the sweep's process. Its clock is set so that all that was written before a moment is a day old.
HOOKS = """
import os, time
from pathlib import Path
from tasks.adapters.checkpoint import condemned
from tasks.adapters.object_store import s3_store
from tasks.adapters.object_store import registry

folder = Path(os.environ["CHAOS_SWEEP"])
registry.store_clock = lambda store: float(os.environ["CHAOS_AGED"]) + 86_400

def hold(place):
    if place == os.environ.get("CHAOS_HOLD"):
        (folder / "held").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)

def around(original, before, after):
    def wrapped(*arguments):
        hold(before)
        result = original(*arguments)
        hold(after)
        return result
    return wrapped

condemned.condemn = around(condemned.condemn, "listed", "marked")
s3_store.S3Store.delete_many = around(s3_store.S3Store.delete_many, "looked", "removed")
"""


def gc_beside_a_run(trial: Trial) -> bool:
    """A run is killed and a day goes by; then a sweep and the next run, one held or killed while the other adopts, seals and loads."""
    first = trial.start()
    if not trial.reach(first, "encode"):
        trial.end(first)
        return False
    kill_run(trial, first)
    trial.extra_allowed = ROWS * trial.files  # what is condemned is not adopted
    place, killed, sweep_first = trial.rng.choice(PLACES), trial.rng.random() < 0.25, trial.rng.random() < 0.75
    trial.notes.append(f"gc {'killed' if killed else 'held'} where it has {place}, begun {'before' if sweep_first else 'after'} the run")
    time.sleep(3)  # S3 tells times in seconds, and a part of the killed run may come in a moment after it: all of them are old then
    sweep = _sweep(trial, time.time() - 1, hold=place) if sweep_first else None
    there = _held(trial, sweep) if sweep else False
    run = trial.start()
    if not sweep:
        trial.ends_within(run, trial.rng.uniform(0, 8))
        sweep = _sweep(trial, time.time() - 1, hold=place)
        there = _held(trial, sweep)
    trial.reach(run, trial.rng.choice(("start", "encode", "seal", "load")))
    if killed:
        sweep.process.kill()
    (_folder(trial) / "go").touch()
    ended = trial.end(run)
    swept = sweep.finish()
    if ended.code or swept.code not in ({-9, 0} if killed else {0}):
        raise Stuck(f"beside a sweep: run {ended.code}, gc {swept.code}: {ended.err[-800:]} {swept.err[-800:]}")
    _sweep_all(trial)
    return there


def _folder(trial: Trial) -> Path:
    return trial.folder / "sweep"


def _sweep(trial: Trial, aged: float, *, hold: str = "") -> Launched:
    """A sweep for which everything that was written before a moment is a day old."""
    folder = _folder(trial)
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(HOOKS)
    told = {"PYTHONPATH": f"{folder}:{ROOT}", "CHAOS_SWEEP": str(folder), "CHAOS_AGED": str(aged), "CHAOS_HOLD": hold}
    # No collection is looked at: a Lite file is the run's alone.
    return trial.start("gc", trial.job(), "--delete", "--json", "--set", f"target.collection={trial.collection}_other", env=told)


def _held(trial: Trial, sweep: Launched) -> bool:
    """Wait until the sweep is where it is held; False: it found nothing to remove."""
    return trial.until((_folder(trial) / "held").exists, sweep, HELD_SECONDS)


def _sweep_all(trial: Trial) -> None:
    """A day later nothing is left but what seals name."""
    time.sleep(1.1)
    swept = _sweep(trial, time.time()).finish(RUN_SECONDS)
    keys = [key for key in trial.house.keys(trial.prefix) if "/part-" in key or "/condemned/" in key]
    seals = [trial.house.get(key).decode() for key in trial.house.keys(trial.prefix) if key.endswith("/seal.json")]
    left = [key for key in keys if not any(key.removeprefix(f"{trial.prefix}/") in seal for seal in seals)]
    if swept.code or left:
        raise Stuck(f"a day later gc ended with {swept.code}, and left {left[:5]}: {swept.err[-500:]}")
