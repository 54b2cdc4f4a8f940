"""Cost against size: time per row and memory of runs that grow tenfold. The model is tiny, so that the pipeline is measured.

The target is a real Milvus server, as in `memory`. 2,000,000 rows take an hour: `--rows 2000000`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import Results, compare
from tests.benchmarks.kitestring import job_of, own_folder, run
from tests.benchmarks.rows import write_short_rows
from tests.models import make_tiny_model
from tests.servers.milvus import milvus_process

SMALLEST, LARGEST = 2_000, 200_000
SHARD_ROWS = 5_000


def cost(sizes: Sizes) -> Outcome:
    """Seconds and CPU seconds for 1,000 rows, without start-up, and peak memory."""
    largest = sizes.rows_or(LARGEST, quick=SMALLEST)
    counts = [count for count in (SMALLEST * 10**power for power in range(4)) if count <= largest] or [largest]
    with own_folder() as folder, milvus_process() as milvus:
        model = make_tiny_model(folder / "tiny")
        contenders = {f"{count:,} rows": partial(one, folder, model, count, uri=milvus.uri) for count in counts}
        results = compare(contenders, sizes.rounds)
    return Outcome(title="Cost against size, tiny model", results=results, conclusions=list(flatness(results)), drawn="s for 1,000 rows")


def one(folder: Path, model: Path, count: int, *, uri: str) -> Mapping[str, float]:
    rows = folder / f"{count}.parquet"
    if not rows.exists():
        write_short_rows(rows, count)
    with own_folder() as here:
        settings = {"shards__rows": SHARD_ROWS, "encoder__precision": "float32", "compute__processes": 2}
        target = {"target__uri": uri, "target__collection": f"b{here.name.replace('-', '_')}"}
        ran = run(here, job_of(here, rows, model, **settings, **target), every=0.5)
    ready, thousands = ran.ready, count / 1_000
    return {
        "start-up s": ready,
        "s for 1,000 rows": (ran.watched.seconds - ready) / thousands,
        "encoding, s for 1,000 rows": (ran.marks["last rows"] - ready) / thousands,
        "CPU s for 1,000 rows": ran.work_cpu_seconds / thousands,
        "peak MiB": ran.watched.peaks.whole,
    }


def flatness(results: Results) -> list[str]:
    """Each size against the one before it."""
    names = list(results)
    figures = ("s for 1,000 rows", "CPU s for 1,000 rows", "peak MiB")
    return [
        f"{large} against {small}: " + ", ".join(f"{f} {results[large][f].median / results[small][f].median - 1:+.1%}" for f in figures)
        for small, large in itertools.pairwise(names)
    ]
