"""python -m tests.cluster --seed 1 --trials 2 --only "lose host"

Runs a job on a Ray cluster of namespaces again and again, breaks something each time, and audits what is there. Needs root and iproute2.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.cluster import cluster
from tests.cluster.machines import unavailable
from tests.cluster.trials import FAULTS, Outcome, Trials

COLUMNS = ("fault", "trials", "failed", "lost", "doubled", "wrong", "left over", "slowest end s", "seconds")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first trial of each fault; the next ones count up")
    parser.add_argument("--trials", type=int, default=1, help="for each fault")
    parser.add_argument("--only", action="append", help="faults whose names hold this; may be given again")
    parser.add_argument("--hosts", type=int, default=2, choices=(1, 2, 3))
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or any(wanted in name for wanted in options.only)]
    if reason := unavailable() or (not chosen and f"no such fault; there are: {', '.join(FAULTS)}"):
        sys.stderr.write(f"{reason}\n")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the machines are ended on the way out
    hosts, outcomes = [f"h{number + 1}" for number in range(options.hosts)], list[Outcome]()
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        with cluster(folder, hosts) as made:
            trials = Trials(made, hosts)
            trials.learn()
            for seed in range(options.seed, options.seed + options.trials):
                for fault in chosen:
                    outcomes.append(trials.play(fault, seed))
                    print(told(outcomes[-1]), flush=True)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
    failed = [outcome for outcome in outcomes if outcome.failed]
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n" + table(outcomes))
    for outcome in failed:
        print(f"failed: --only '{outcome.fault}' --seed {outcome.seed} --trials 1; logs in {folder}")
    return 1 if failed or not outcomes else 0


def told(outcome: Outcome) -> str:
    notes = "; ".join([*outcome.notes, *filter(None, [outcome.error])])
    return f"{outcome.fault} --seed {outcome.seed}: {'FAILED' if outcome.failed else 'ok'}, {outcome.seconds:.0f} s, gone in {outcome.gone:.1f} s; {notes}"


def table(outcomes: list[Outcome]) -> str:
    """For a terminal and for Markdown alike."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for fault in dict.fromkeys(outcome.fault for outcome in outcomes):
        some = [outcome for outcome in outcomes if outcome.fault == fault]
        sums = [sum(getattr(outcome, name) for outcome in some) for name in ("failed", "lost", "doubled", "wrong", "left")]
        cells = [fault, len(some), *sums, f"{max(o.gone for o in some):.1f}", f"{sum(o.seconds for o in some):.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
