"""Cost against size: time per row and memory of runs that grow tenfold. The model is tiny, so that the pipeline is measured.

The target is a real Milvus server, as in `memory`, a new one for each run: what it still does to an earlier run's rows is not
the next one's. What waits for its index is told apart. 2,000,000 rows take half an hour: `--rows 2000000`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import Results, compare
from tests.benchmarks.kitestring import job_of, make_home, own_folder, run
from tests.benchmarks.rows import write_short_rows
from tests.builders.models import make_tiny_model
from tests.servers.milvus import milvus_process

SMALLEST, LARGEST = 2_000, 200_000
SHARD_ROWS = 5_000
EVERY = 2.0  # seconds between looks at the memory
DONE = "encoded and loaded, s"
EACH = "encoded and loaded, s for 1,000 rows"
EACH_CPU = "of it CPU s for 1,000 rows"


def cost(sizes: Sizes) -> Outcome:
    """Seconds and CPU seconds for 1,000 rows, without start-up, and peak memory."""
    largest = sizes.rows_or(LARGEST, quick=SMALLEST)
    counts = [count for count in (SMALLEST * 10**power for power in range(4)) if count <= largest] or [largest]
    with own_folder() as folder:
        model = make_tiny_model(folder / "tiny")
        make_home(folder)
        contenders = {f"{count:,} rows": partial(one, folder, model, count) for count in counts}
        results = compare(contenders, sizes.rounds)
    return Outcome(title="Cost against size, tiny model", results=results, conclusions=flatness(results, counts), drawn=EACH)


def one(folder: Path, model: Path, count: int) -> Mapping[str, float]:
    rows = folder / f"{count}.parquet"
    if not rows.exists():
        write_short_rows(rows, count)
    with own_folder() as here, milvus_process(ends_with_us=True) as milvus:
        settings = {"shards__rows": SHARD_ROWS, "encoder__precision": "float32", "compute__processes": 2}
        ran = run(here, job_of(here, rows, model, target__uri=milvus.uri, **settings), every=EVERY, home=folder)
    marks, ready, thousands = ran.marks, ran.ready, count / 1_000
    return {
        "start-up, s": ready,
        DONE: marks["last load"] - ready,
        "the server's index, s": marks["settled"] - marks["verify began"],
        "proof, report, end, s": ran.watched.seconds - marks["settled"],
        EACH: (marks["last load"] - ready) / thousands,
        EACH_CPU: (marks["CPU seconds until verify"] - marks["CPU seconds until ready"]) / thousands,
        "peak MiB": ran.watched.peaks.whole,
    }


def flatness(results: Results, counts: Sequence[int]) -> list[str]:
    """Each size against the one before it, and what the rows that it has more cost: that is without what each run costs once."""
    said = []
    for (less, small), (more, large) in itertools.pairwise(zip(counts, results.values(), strict=True)):
        further = (large[DONE].median - small[DONE].median) / (more - less) * 1_000
        compared = ", ".join(f"{f} {large[f].median / small[f].median - 1:+.1%}" for f in (EACH, EACH_CPU, "peak MiB"))
        said.append(f"{more:,} rows against {less:,}: {compared}; a further 1,000 rows took {further:.3f} s")
    return said
