"""Peak memory of a run of 20,000 and of 200,000 short rows: the law "Bounded memory" says that it does not depend on them.

The target is a real Milvus server: Milvus Lite lives in the flow's own process and holds what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import job_of, own_folder, run
from tests.benchmarks.rows import write_short_rows
from tests.builders.models import make_tiny_model
from tests.servers.milvus import milvus_process

ROWS = 200_000
SHARD_ROWS = 5_000
EVERY = 0.1


def memory(sizes: Sizes) -> Outcome:
    """MiB of each kind of process, and of all of them at one moment."""
    many = sizes.rows_or(ROWS, quick=2_000)
    few = many // 10
    with own_folder() as folder, milvus_process(ends_with_us=True) as milvus:
        model = make_tiny_model(folder / "tiny")
        contenders = {}
        for name, shard_rows in ((f"shards of {SHARD_ROWS:,}", SHARD_ROWS), ("one shard", many)):
            for count in (few, many):
                measure = partial(peaks, folder, model, count, shard_rows=shard_rows, uri=milvus.uri)
                contenders[f"{count:,} rows, {name}"] = measure
        results = compare(contenders, 1)
    names = list(results)
    conclusions = []
    for small, large in ((names[0], names[1]), (names[2], names[3])):
        for figure in ("flow", "all at once"):
            growth = results[large][figure].median / results[small][figure].median - 1
            conclusions.append(f"{large}: {figure} {growth:+.1%} against a tenth of them")
    return Outcome(title="Peak memory (PSS, MiB), tiny model", results=results, conclusions=conclusions, drawn="all at once")


def peaks(folder: Path, model: Path, count: int, *, shard_rows: int, uri: str) -> Mapping[str, float]:
    rows = write_short_rows(folder / f"{count}.parquet", count)
    with own_folder() as here:
        settings = {"shards__rows": shard_rows, "encoder__precision": "float32", "compute__processes": 2}
        target = {"target__uri": uri, "target__collection": f"b{here.name.replace('-', '_')}"}
        ran = run(here, job_of(here, rows, model, **settings, **target), every=EVERY)
    found = ran.watched.peaks
    kinds = {kind: found.by_kind[kind] for kind in sorted(found.by_kind) if kind not in ("guard", "other")}
    return {**kinds, "all at once": found.whole, "seconds": ran.watched.seconds}
