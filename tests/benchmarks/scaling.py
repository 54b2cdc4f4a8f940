"""One rank and two, a thread each: what the second brings, for the same rows (Amdahl) and for twice as many (Gustafson).

G. M. Amdahl, "Validity of the single processor approach", AFIPS 1967: n processes take f + (1 - f) / n of the time of one.
J. L. Gustafson, "Reevaluating Amdahl's law", CACM 31 (5), 1988: n processes do n - a (n - 1) times the work in the same time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import Results, compare
from tests.benchmarks.kitestring import job_of, own_folder, run
from tests.benchmarks.rows import write_passages

ROWS = 1_000
MOST_RANKS = 8


def scaling(sizes: Sizes) -> Outcome:
    """Encoding in the real command, from the last rank's start to the last row."""
    count = sizes.rows_or(ROWS, quick=40)
    ranks = [n for n in (1, 2, 4, 8) if n <= min(MOST_RANKS, os.cpu_count() or 1)]
    with own_folder() as folder:
        files = {n: write_passages(folder / f"{n}.parquet", count * n) for n in ranks}
        contenders = {f"{n} ranks, {count:,} rows": partial(one, files[1], n, count) for n in ranks}
        contenders |= {f"{n} ranks, {n * count:,} rows": partial(one, files[n], n, n * count) for n in ranks[1:]}
        results = compare(contenders, sizes.rounds)
    return Outcome(title="Ranks, all-MiniLM-L6-v2", results=results, conclusions=conclusions(results, ranks, count), drawn="rows/s")


def one(rows: Path, ranks: int, count: int) -> Mapping[str, float]:
    with own_folder() as here:
        job = job_of(
            here, rows, minilm(), compute__processes=ranks, compute__threads=1, encoder__precision="auto", compute__backend="torch"
        )
        ran = run(here, job)
    ready = ran.ready
    seconds = ran.marks["last rows"] - ready
    return {"rows/s": count / seconds, "encoding s": seconds, "start-up s": ready, "peak MiB": ran.watched.peaks.whole}


def conclusions(results: Results, ranks: list[int], count: int) -> list[str]:
    """Speed-ups against the ideal, and what the laws say of them."""
    alone = results[f"1 ranks, {count:,} rows"]["rows/s"].median
    fixed = {n: results[f"{n} ranks, {count:,} rows"]["rows/s"].median / alone for n in ranks[1:]}
    scaled = {n: results[f"{n} ranks, {n * count:,} rows"]["rows/s"].median / alone for n in ranks[1:]}
    said = [f"{n} ranks: {fixed[n]:.2f} x on the same rows, {scaled[n]:.2f} x on {n} times as many; ideal {n}" for n in fixed]
    if fixed:
        said.append(
            f"Amdahl: {amdahl(fixed):.1%} of one rank's time cannot be shared; Gustafson: {gustafson(scaled):.1%} of the scaled time"
        )
    return said


def amdahl(speedups: Mapping[int, float]) -> float:
    """The serial share f that fits 1/S(n) = f + (1 - f)/n best, by least squares.

    Args:
        speedups: by number of ranks, more than one.
    """
    points = [(1 - 1 / n, 1 / s - 1 / n) for n, s in speedups.items()]
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)


def gustafson(speedups: Mapping[int, float]) -> float:
    """The serial share a that fits S(n) = n - a (n - 1) best, by least squares."""
    points = [(n - 1, n - s) for n, s in speedups.items()]
    return sum(x * y for x, y in points) / sum(x * x for x, _ in points)
