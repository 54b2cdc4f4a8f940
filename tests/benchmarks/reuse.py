"""What a change of the source costs: rows encoded, bytes of the checkpoint read, seconds and memory, beside the run that encoded all of it.

Ten files are embedded once with the real model; then rows are edited, a column is added, files are renamed and compacted, rows shuffled,
each on top of the change before. The rows of the collection are looked at by pymilvus after each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from tests.benchmarks.bench import Outcome, Sizes, minilm
from tests.benchmarks.figures import Series
from tests.benchmarks.kitestring import job_of, make_home, own_folder, run
from tests.benchmarks.watch import MEBI
from tests.builders.kitestring import text_of
from tests.builders.models import make_tiny_model
from tests.servers.milvus import milvus_process

FILES = 10
EDITED = 1_000  # one row in so many
Change = Callable[[Path], None]


def reuse(sizes: Sizes) -> Outcome:
    """`--rows`: of the source. One round: each step begins where the one before ended."""
    rows = sizes.rows_or(100_000, quick=2_000)
    with own_folder() as folder, milvus_process(ends_with_us=True) as milvus:
        source = folder / "rows"
        source.mkdir()
        for number in range(FILES):
            first, stop = number * rows // FILES, (number + 1) * rows // FILES
            pq.write_table(
                pa.table({"id": [f"row-{n}" for n in range(first, stop)], "text": [text_of(n) for n in range(first, stop)]}),
                source / f"{number}.parquet",
            )
        make_home(folder)
        model = make_tiny_model(folder / "tiny") if sizes.quick else minilm()
        measure = partial(step, folder, model, milvus.uri, rows)
        found = {"all of it": measure({}), **{name: measure(settings, change) for name, (change, settings) in CHANGES.items()}}
    results = {name: {figure: Series((value,)) for figure, value in figures.items()} for name, figures in found.items()}
    return Outcome(title=f"A source of {rows:,} rows in {FILES} files that changes", results=results, drawn="rows encoded")


def step(folder: Path, model: Path, uri: str, rows: int, settings: Mapping[str, Any], change: Change | None = None) -> Mapping[str, float]:
    """Change the source, run, and compare the collection with it."""
    source = folder / "rows"
    if change:
        change(source)
    collection = {"target__uri": uri, "target__mode": "mirror", "target__allow_shrink": True, "target__collection": "reuse", **settings}
    ran = run(folder, job_of(folder, source, model, shards__rows=20_000, compute__processes=2, **collection), every=1.0, home=folder)
    answer = json.loads((folder / "said.txt").read_text().splitlines()[-1])
    assert answer["verified"], answer
    assert _held(uri, collection["target__collection"], answer["rows"]["loaded"]) == rows
    read = float(ran.marks.get("checkpoint bytes read", 0)) / MEBI
    return {
        "rows encoded": answer["rows"]["embedded"],
        "reused": answer["rows"]["reused"],
        "checkpoint read MiB": read,
        "seconds": ran.watched.seconds,
        "CPU s": ran.watched.cpu_seconds,
        "flow MiB": ran.watched.peaks.by_kind["flow"],
        "all at once MiB": ran.watched.peaks.whole,
    }


def _held(uri: str, collection: str, loaded: int) -> int:
    client = MilvusClient(uri)
    (counted,) = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
    some = [f"row-{n}" for n in range(0, loaded, max(1, loaded // 100))]
    wanted = ["n"] if collection == "reuse_n" else ["text"]
    for row in client.query(collection, filter=f"id in {json.dumps(some)}", output_fields=["id", *wanted], consistency_level="Strong"):
        number = int(row["id"].removeprefix("row-"))
        assert row["n"] == number if collection == "reuse_n" else row["text"].startswith(text_of(number)), row
    client.close()
    return int(counted["count(*)"])


def _each(source: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    for path in source.iterdir():
        pq.write_table(change(pq.ParquetFile(path).read()), path)


def _edit(source: Path) -> None:
    def edited(table: pa.Table) -> pa.Table:
        texts = [f"{text} anew" if at % EDITED == 0 else text for at, text in enumerate(table["text"].to_pylist())]
        return table.set_column(1, "text", pa.array(texts))

    _each(source, edited)


def _add_column(source: Path) -> None:
    _each(source, lambda table: table.append_column("n", pa.array([int(key.removeprefix("row-")) for key in table["id"].to_pylist()])))


def _rename(source: Path) -> None:
    for path in list(source.iterdir()):
        path.rename(source / f"renamed-{path.name}")


def _compact(source: Path) -> None:
    paths = sorted(source.iterdir())
    for number in range(2):
        some = [pq.ParquetFile(path).read() for path in paths[number::2]]
        pq.write_table(pa.concat_tables(some), source / f"compacted-{number}.parquet", row_group_size=20_000)
    for path in paths:
        path.unlink()


def _shuffle(source: Path) -> None:
    draw = np.random.default_rng(1)
    whole = pa.concat_tables(pq.ParquetFile(path).read() for path in sorted(source.iterdir()))
    mixed = whole.take(draw.permutation(whole.num_rows))
    for number, path in enumerate(sorted(source.iterdir())):
        pq.write_table(mixed.slice(number * whole.num_rows // 2, whole.num_rows // 2), path, row_group_size=20_000)


WITH_N = {"source__metadata": ["n"], "target__collection": "reuse_n"}
CHANGES: dict[str, tuple[Change, dict[str, Any]]] = {
    "one row in 1,000 edited": (_edit, {}),
    "a metadata column added": (_add_column, WITH_N),
    "all files renamed": (_rename, WITH_N),
    "all compacted into two": (_compact, WITH_N),
    "all rows shuffled": (_shuffle, WITH_N),
}
