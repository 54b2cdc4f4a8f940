"""python -m tests.cluster --trials 60 --seed 1 --only "lose host" --engine ray

Runs a job on Ray and Dask clusters of namespaces again and again, breaks something each time, and audits what is there. Needs root and
iproute2. Each kind of fault in turn, on each engine; the seed draws when and where. A line for each trial as it ends, a table at the end,
also where it is stopped (SIGTERM, Ctrl-C).
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.cluster import cluster
from tests.cluster.engines import ON_MACHINES
from tests.cluster.faults import FAULTS
from tests.cluster.machines import unavailable
from tests.cluster.outcome import Outcome, described, table
from tests.cluster.trials import Trials

TRIAL_SECONDS = 1_500  # after which one has failed, whatever it waits for


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of the first round of all faults; the next ones count up")
    parser.add_argument("--trials", type=int, help="in all; left out: each fault once on each engine")
    parser.add_argument("--only", action="append", help="faults whose names hold this; may be given again")
    parser.add_argument("--engine", choices=[*ON_MACHINES], action="append", help="may be given again; left out: all")
    parser.add_argument("--hosts", type=int, default=3, choices=(1, 2, 3), help="that the cluster has; a trial uses some or all of them")
    parser.add_argument(
        "--truth", type=Path, help="a file: what one host made of the corpus in an earlier series; written if there is none"
    )
    parser.add_argument("--one-server", action="store_true", help="runs share a Prefect server, where it need not end with them")
    options = parser.parse_args()
    chosen = [name for name in FAULTS if not options.only or any(wanted in name for wanted in options.only)]
    chosen = [name for name in chosen if FAULTS[name].least <= options.hosts]
    if reason := unavailable() or (not chosen and f"no such fault; there are: {', '.join(FAULTS)}"):
        sys.stderr.write(f"{reason}\n")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the machines are ended on the way out
    folder, outcomes = Path(tempfile.mkdtemp(prefix="cluster-")), list[Outcome]()
    try:
        play(options, chosen, folder, outcomes)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
    failed = [outcome for outcome in outcomes if outcome.failed]
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    for outcome in failed:
        print(f"failed: --only '{outcome.fault}' --engine {outcome.engine} --seed {outcome.seed} --trials 1; logs in {folder}")
    return 1 if failed or not outcomes else 0


def play(options: argparse.Namespace, chosen: list[str], folder: Path, outcomes: list[Outcome]) -> None:
    """Trials until there are enough; the table is printed before the machines are ended, which may take a while."""
    engines = options.engine or [*ON_MACHINES]
    rounds = ((seed, fault, engine) for seed in itertools.count(options.seed) for fault in chosen for engine in engines)
    hosts = [f"h{number + 1}" for number in range(options.hosts)]
    known = options.truth and options.truth.exists()
    needed = dict.fromkeys(engines if known else ["ray", *engines])
    with cluster(folder, hosts, [ON_MACHINES[name] for name in needed]) as made:
        try:
            trials = Trials(made, one_server=options.one_server)
            trials.learn(options.truth)
            print("it is known what one host makes of the corpus undisturbed", flush=True)
            for seed, fault, engine in itertools.islice(rounds, options.trials or len(chosen) * len(engines)):
                with time_limit(TRIAL_SECONDS):
                    outcomes.append(trials.play(fault, seed, ON_MACHINES[engine], hosts_for(fault, seed, options.hosts)))
                print(f"{time.strftime('%H:%M:%S')} {len(outcomes)}. {described(outcomes[-1])}", flush=True)
        finally:
            print("\n" + table(outcomes), flush=True)


def hosts_for(fault: str, seed: int, most: int) -> int:
    """All numbers in turn."""
    least = FAULTS[fault].least
    return most if FAULTS[fault].all_hosts else least + seed % (most - least + 1)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"not within {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds, 60)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main())
