"""Rows per second into Milvus Lite with full text on, beside off; Milvus 2.3.5 has none.

The rows are those of `loading`, but their texts are passages of the standard library's documentation, cut to 400 characters: what BM25
costs goes with the number of different words. Rows are timed until the last is acknowledged, and until all are indexed and counted.
Milvus Lite is in this process: its processor time is in `CPU s`, which other programs change less than seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tasks.adapters.sources.stdlib_docs import passages
from tasks.domain.job.index import FullText
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import Results, compare, ratio
from tests.benchmarks.kitestring import own_folder
from tests.benchmarks.loading import timed, upsert, write_parts

ROWS, CHARACTERS, PAIRS = 20_000, 400, 5
OFF, ON = "vectors alone", "full text"


def loading_words(sizes: Sizes) -> Outcome:
    """At least five pairs: each fills a collection of its own, of one file."""
    count = sizes.rows_or(ROWS, quick=2_000)
    with own_folder() as folder:
        parts = list(write_parts(folder, count, [passage.text[:CHARACTERS] for passage in passages()]))
        ways = {OFF: None, ON: FullText()}
        contenders = {name: partial(measured, folder, parts, count, way) for name, way in ways.items()}
        results = compare(contenders, 1 if sizes.quick else max(PAIRS, sizes.rounds))
    said = [f"{ON}, of {OFF}: {figure} {ratio(results, ON, OFF, figure):.2f}, by pairs {pairs(results, figure)}" for figure in results[ON]]
    return Outcome(
        title=f"Loading {count:,} rows into Milvus Lite, full text on and off", results=results, conclusions=said, drawn="rows/s"
    )


def measured(folder: Path, parts: list[Path], count: int, way: FullText | None) -> Mapping[str, float]:
    began = time.process_time()
    found = timed(upsert, str(folder / "lite.db"), parts, count, way)
    return {**found, "CPU s": time.process_time() - began}


def pairs(results: Results, figure: str) -> str:
    """The lowest and the highest ratio of a round."""
    found = [on / off for on, off in zip(results[ON][figure].values, results[OFF][figure].values, strict=True)]
    return f"{min(found):.2f} to {max(found):.2f}"
