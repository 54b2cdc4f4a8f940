"""python -m tests.benchmarks [NAME ...] [--quick] [--rounds N] [--rows N] [--out FOLDER]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks.bench import Benchmark, Sizes
from tests.benchmarks.ceiling import ceiling
from tests.benchmarks.cluster import cluster
from tests.benchmarks.encode import encode, encode_masked
from tests.benchmarks.end_to_end import end_to_end
from tests.benchmarks.full_text import loading_words
from tests.benchmarks.images import images
from tests.benchmarks.listing import listing
from tests.benchmarks.loading import loading
from tests.benchmarks.memory import memory
from tests.benchmarks.output import keep, table
from tests.benchmarks.proving import proving
from tests.benchmarks.resume import resume
from tests.benchmarks.reuse import reuse
from tests.benchmarks.scaling import scaling
from tests.benchmarks.shards import shards
from tests.benchmarks.shared_weights import shared_weights
from tests.benchmarks.sizes import cost
from tests.benchmarks.startup import startup

BENCHMARKS: dict[str, Benchmark] = {
    "encode": encode,
    "encode-avx2": encode_masked,
    "end_to_end": end_to_end,
    "ceiling": ceiling,
    "scaling": scaling,
    "images": images,
    "startup": startup,
    "sizes": cost,
    "memory": memory,
    "shared-weights": shared_weights,
    "loading": loading,
    "full-text": loading_words,
    "proving": proving,
    "shards": shards,
    "resume": resume,
    "cluster": cluster,
    "listing": listing,
    "reuse": reuse,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.benchmarks", description="Measured comparisons; see tests/benchmarks/README.md.")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], metavar="NAME", help=f"{', '.join(BENCHMARKS)}; all of them if none")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender has its turn")
    parser.add_argument("--rows", type=int, help="instead of each benchmark's own number")
    parser.add_argument(
        "--only", action="append", default=[], help="encode, end_to_end, shards: contenders whose names hold this; may be given again"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where tables, JSON and charts go")
    parser.add_argument("--quick", action="store_true", help="one round of very few rows: shows that a benchmark works")
    asked = parser.parse_args()
    rounds = 1 if asked.quick else asked.rounds
    for name in asked.names or BENCHMARKS:
        sys.stdout.write(f"{name} ...\n")
        outcome = BENCHMARKS[name](Sizes(rounds=rounds, rows=asked.rows, quick=asked.quick, only=tuple(asked.only)))
        keep(name, outcome, asked.out)
        sys.stdout.write(f"\n{table(outcome)}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
