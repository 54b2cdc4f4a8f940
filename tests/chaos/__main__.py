"""python -m tests.chaos --seed 1 --trials 12 --only "kill flow"

Runs the real job again and again, breaks something each time, lets the next run finish, and audits what is there.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.chaos.faults import FAULTS
from tests.chaos.house import open_house
from tests.chaos.machine import run_pair, run_trial
from tests.chaos.table import Outcome, table

STOPPED = 130  # as a shell says it


def main() -> int:
    options = _options()
    chosen = [name for name in FAULTS if not options.only or any(wanted in name for wanted in options.only)]
    if not chosen:
        sys.stderr.write(f"no such fault; there are: {', '.join(FAULTS)}\n")
        return 2
    settings = dict(told.split("=", 1) for told in options.set)
    logging.disable(logging.WARNING)  # of flows that are played in this process
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are ended on the way out, and the table is printed
    outcomes: list[Outcome] = []
    stopped = False
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with open_house(folder) as house:
            for number in range(options.trials):
                seed = options.seed + number
                trials = [partial(run_pair, house)] if options.pairs else [partial(run_trial, house, fault, **settings) for fault in chosen]
                for trial in trials:
                    outcomes.append(trial(seed))
                    _tell(outcomes[-1])
    except KeyboardInterrupt:
        stopped = True
        sys.stderr.write("stopped\n")
    finally:
        if not any(o.failed for o in outcomes):
            shutil.rmtree(folder, ignore_errors=True)
    print("\n" + table(outcomes))
    failed = [o for o in outcomes if o.failed]
    for outcome in failed:
        which = "--pairs" if options.pairs else f"--only '{outcome.fault}'"
        print(f"failed: {which} --seed {outcome.seed} --trials 1")
    return 1 if failed else STOPPED if stopped else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial of each fault; the next ones count up")
    parser.add_argument("--trials", type=int, default=1, help="for each fault, or pairs")
    parser.add_argument("--pairs", action="store_true", help="two faults in each trial, drawn by its seed")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SETTING=TEXT", help="of the job, as compute__model_parallel=fsdp; not with --pairs"
    )
    parser.add_argument("--only", action="append", help="faults whose names hold this; may be given again")
    return parser.parse_args()


def _tell(o: Outcome) -> None:
    said = f"skipped: {o.skipped}" if o.skipped else "FAILED" if o.failed else "ok" if o.struck else "ok (missed)"
    line = (
        f"{o.fault} --seed {o.seed}: {said}, {o.seconds:.0f} s, {o.findings.extra} extra, gone in {o.slowest:.1f} s; {'; '.join(o.notes)}"
    )
    print(line, flush=True)
    if o.failed:
        f = o.findings
        for what in [o.error, *f.lost[:5], *f.doubled[:5], *f.ghosts[:5], *f.wrong[:5], *f.lies, *f.processes]:
            if what:
                print(f"    {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
