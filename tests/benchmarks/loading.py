"""Rows per second into a collection: upsert as Kitestring does it, server-side import, and plain inserts of dicts.

On the real Milvus 2.3.5. The rows are what a part holds: key, 384 float32, a text of 400 characters, an integer, the
shard. Each contender fills a collection of its own and is timed until the server has acknowledged the last row, and until every
row is indexed and seen by a strong read. Reading and checking parts is in Kitestring's figures and not in the plain one's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pymilvus import MilvusClient

from tasks.adapters.checkpoint.part_files import PartMeta, read_part, vector_column, write_part
from tasks.adapters.milvus.collection_schema import build_schema
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.row_dicts import as_rows
from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.rows.row_schema import part_schema
from tasks.adapters.targets.part_loading import load_part
from tasks.domain.job.index import FullText
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.fields import ScalarField
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import own_folder
from tests.servers.milvus import milvus_process

ROWS, PART_ROWS, DIM = 100_000, 10_000, 384
PLAIN_BATCH = 1_000
FIELDS = (ScalarField(name="n", column="n", type="int64"),)
Load = Callable[[str, CollectionSpec, list[Path]], None]


def loading(sizes: Sizes) -> Outcome:
    """Rows per second of each way in, side by side on one server."""
    count = sizes.rows_or(ROWS)
    with own_folder() as folder, milvus_process(ends_with_us=True) as milvus:
        parts = list(write_parts(folder, count))
        ways: dict[str, Load] = {
            "upsert": upsert,
            "import": partial(imported, staging=folder / "staging"),
            "plain insert of dicts": plain,
        }
        contenders = {name: partial(timed, way, milvus.uri, parts, count) for name, way in ways.items()}
        results = compare(contenders, sizes.rounds)
    slow = results["plain insert of dicts"]["rows/s"].median
    conclusions = [f"{name}: {results[name]['rows/s'].median / slow:.2f} times the plain insert" for name in ("upsert", "import")]
    return Outcome(
        title=f"Loading {count:,} rows of {DIM} dimensions into Milvus 2.3.5", results=results, conclusions=conclusions, drawn="rows/s"
    )


def write_parts(folder: Path, count: int, texts: Sequence[str] = ()) -> Iterator[Path]:
    """Parts of so many rows. `texts`: of the rows, in turn; none: each row's number, again and again."""
    rng = np.random.default_rng(7)
    schema = part_schema(FIELDS, store_text=True)
    for first in range(0, count, PART_ROWS):
        numbers = range(first, min(count, first + PART_ROWS))
        vectors = rng.standard_normal((len(numbers), DIM), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        columns = {
            "id": [f"row-{n}" for n in numbers],
            "vector": vector_column(vectors),
            "text": [texts[n % len(texts)] if texts else f"{n} " * (400 // len(f"{n} ")) for n in numbers],
            "n": list(numbers),
            "shard": ["s"] * len(numbers),
        }
        path = folder / f"part-{first}.parquet"
        write_part(path, pa.table(columns, schema=schema), PartMeta(shard="s", first=first, stop=first + len(numbers)))
        yield path


def timed(way: Load, uri: str, parts: list[Path], count: int, full_text: FullText | None = None) -> Mapping[str, float]:
    name = f"l_{uuid.uuid4().hex[:8]}"
    spec = CollectionSpec(
        name=name,
        alias=f"{name}_a",
        dim=DIM,
        metric="COSINE",
        store_text=True,
        id_length=64,
        fields=FIELDS,
        fingerprint="0" * 32,
        model="none",
        full_text=full_text,
    )
    begun = time.perf_counter()
    way(uri, spec, parts)
    loaded = time.perf_counter() - begun
    target = MilvusTarget(uri)
    watching = target.collection(name)
    watching.flush_and_index()
    while watching.count() != count:
        time.sleep(0.5)
    found = time.perf_counter() - begun
    target.drop(name)
    target.close()
    return {"rows/s": count / loaded, "seconds": loaded, "indexed and found s": found}


def upsert(uri: str, spec: CollectionSpec, parts: list[Path]) -> None:
    collection = MilvusTarget(uri).collection(spec.name)
    collection.ensure(spec)
    for path in parts:
        load_part(collection, read_part(path.read_bytes())[0], "s")
    collection.target.close()


def imported(uri: str, spec: CollectionSpec, parts: list[Path], *, staging: Path) -> None:
    """As tasks.stages.bulk_import does it, less what it notes down; until the server says that all jobs are done."""
    target = MilvusTarget(uri, staging=str(staging))
    target.collection(spec.name).ensure(spec)
    loader = target.bulk_loader()
    with loader.stage(spec.name, spec.name, staging.parent) as place:
        for path in parts:
            place.add(read_part(path.read_bytes())[0])
        files = place.files()
    jobs = loader.start(spec.name, files, idempotency_key=spec.name)
    while any(loader.look(job).state == "running" for job in jobs):
        time.sleep(0.2)
    assert all(loader.look(job).state == "done" for job in jobs)
    loader.clear(spec.name)
    target.close()


def plain(uri: str, spec: CollectionSpec, parts: list[Path]) -> None:
    """What a script does: dicts, a thousand at a time. They are made before the clock would count them anywhere else."""
    client = MilvusClient(uri)
    client.create_collection(spec.name, schema=build_schema(spec), consistency_level="Bounded")
    for path in parts:
        dicts: list[dict[str, Any]] = as_rows(read_part(path.read_bytes())[0], columns_of(spec), DIM)
        for first in range(0, len(dicts), PLAIN_BATCH):
            client.insert(spec.name, dicts[first : first + PLAIN_BATCH])
    client.close()
