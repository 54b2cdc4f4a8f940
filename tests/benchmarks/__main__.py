"""python -m tests.benchmarks [NAME ...] [--rounds N] [--rows N] [--out FOLDER]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks.bench import Benchmark, Sizes
from tests.benchmarks.encode import encode
from tests.benchmarks.end_to_end import end_to_end
from tests.benchmarks.loading import loading
from tests.benchmarks.memory import memory
from tests.benchmarks.output import keep, table
from tests.benchmarks.startup import startup

BENCHMARKS: dict[str, Benchmark] = {"encode": encode, "end_to_end": end_to_end, "startup": startup, "memory": memory, "loading": loading}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description="Measured comparisons; see tests/benchmarks/README.md.")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all of them if none")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn")
    parser.add_argument("--rows", type=int, help="instead of each benchmark's own number")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where tables, JSON and charts go")
    asked = parser.parse_args()
    for name in asked.names or BENCHMARKS:
        sys.stdout.write(f"{name} ...\n")
        outcome = BENCHMARKS[name](Sizes(rounds=asked.rounds, rows=asked.rows))
        keep(name, outcome, asked.out)
        sys.stdout.write(f"\n{table(outcome)}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
