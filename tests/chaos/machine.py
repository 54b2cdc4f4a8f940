"""A trial from its beginning to its audit."""

from __future__ import annotations

import shutil
import time
import traceback
from contextlib import suppress

from tests.chaos.audit import Findings, audit
from tests.chaos.faults import FAULTS
from tests.chaos.house import House
from tests.chaos.servers import drop_collection
from tests.chaos.table import Outcome
from tests.chaos.trial import Skipped, Stuck, Trial


def run_trial(house: House, fault: str, seed: int) -> Outcome:
    """Break something in one job, let the next run finish, look at what is there."""
    folder = house.folder / f"trial-{seed}-{time.monotonic_ns()}"
    folder.mkdir()
    began, findings, error, struck, skipped = time.monotonic(), Findings(), "", True, ""
    trial = Trial(house=house, folder=folder, seed=seed, fault=fault)
    try:
        struck = FAULTS[fault](trial)
        house.calm()
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
                drop_collection(trial.target, trial.collection)
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
