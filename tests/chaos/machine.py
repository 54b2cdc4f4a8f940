"""A trial from its beginning to its audit."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

from tests.chaos.audit import Findings, audit
from tests.chaos.corpus import ROWS
from tests.chaos.faults import FAULTS, Pair, draw_pair
from tests.chaos.house import House
from tests.chaos.launched import Skipped, Stuck
from tests.chaos.servers import drop_collection
from tests.chaos.table import Outcome
from tests.chaos.trial import Trial


def run_trial(house: House, fault: str, seed: int, **settings: object) -> Outcome:
    """Break something in one job, let the next run finish, look at what is there. `settings`: more of the job, with `__` for dots."""
    return _play(house, fault, seed, FAULTS[fault].strike, settings)


def run_pair(house: House, seed: int, pair: Pair | None = None) -> Outcome:
    """The same with two faults, which the seed draws."""
    pair = pair or draw_pair(seed)
    return _play(house, pair.name, seed, lambda trial: strike_both(trial, pair))


def strike_both(trial: Trial, pair: Pair) -> bool:
    """What changes between runs comes before the run that the other fault hits; else both hit one run, if it goes on after the first."""
    first, second = FAULTS[pair.first], FAULTS[pair.second]
    trial.paired = True
    trial.extra_allowed += 2 * ROWS * trial.files
    if pair.on in ("server", "proxy"):
        trial.target = trial.house.milvus.uri if pair.on == "server" else trial.house.before_milvus.uri
    trial.keeps_target = True
    if first.how == "between":
        struck = first.strike(trial) and second.strike(trial)
    else:
        trial.second = second.strike
        struck = first.strike(trial) and trial.second_struck and trial.second is None
        trial.second = None
    trial.again = True
    return struck


def _play(
    house: House, fault: str, seed: int, strike: Callable[[Trial], bool], settings: Mapping[str, object] = MappingProxyType({})
) -> Outcome:
    folder = house.folder / f"trial-{seed}-{time.monotonic_ns()}"
    folder.mkdir()
    began, findings, error, struck, skipped = time.monotonic(), Findings(), "", True, ""
    trial = Trial(house=house, folder=folder, seed=seed, fault=fault, settings=dict(settings))
    try:
        struck = strike(trial)
        house.calm()
        if not trial.judged:
            finish(trial)
            findings = audit(trial)
    except Skipped as reason:
        skipped = str(reason)
    except Stuck as stuck:
        error = str(stuck)
    except Exception:  # noqa: BLE001 - the other trials go on, and this one stands in the table
        error = traceback.format_exc()[-1500:]
    finally:
        trial.clean()
        if trial.target.startswith("http"):
            with suppress(Exception):  # it may be down
                drop_collection(trial.opens, trial.collection)
    outcome = Outcome(
        fault=fault,
        seed=seed,
        struck=struck,
        findings=findings,
        slowest=max(trial.ends, default=0.0),
        seconds=time.monotonic() - began,
        error=error,
        notes=[*trial.notes, f"ends {[run.code for run in trial.runs]}"],
        skipped=skipped,
    )
    if not outcome.failed:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def finish(trial: Trial) -> None:
    """The next run ends well; where the first did, there is nothing left to do."""
    if trial.runs and trial.runs[-1].code == 0 and not trial.again:
        return
    ended = trial.run()
    if ended.code != 0:
        raise Stuck(f"the next run ended with {ended.code}: {ended.err[-1500:]}")
    trial.insist(trial.told in ended.err, f"the run that mended {trial.told} did not name it: {ended.err[-500:]}")
