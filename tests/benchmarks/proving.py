"""Rows per second of `verify --full` on the real Milvus 2.3.5, against a script that only queries the same rows.

The rows are those of `loading`. `proof` reads every part, compares every row's key, vector, fields and
shard, and counts each shard. The script asks pymilvus for all fields of the same keys, 1,000 or 4,000 of them in a query, one query
at a time or eight, and looks at nothing that comes back: that is the rate at which the server answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pymilvus import MilvusClient

from tasks.adapters.checkpoint.part_files import read_part
from tasks.adapters.milvus.filters import among
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.rows.collection_rows import columns_of
from tasks.adapters.targets.part_loading import load_part
from tasks.adapters.targets.shard_counts import ReadPart
from tasks.adapters.targets.verification import prove
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.target.collection import CollectionSpec
from tests.benchmarks.bench import Outcome, Sizes
from tests.benchmarks.figures import compare
from tests.benchmarks.kitestring import own_folder
from tests.benchmarks.loading import DIM, FIELDS, write_parts
from tests.servers.milvus import milvus_process

ROWS = 40_000
SPEC = CollectionSpec(
    name="proving",
    alias="proving_a",
    dim=DIM,
    metric="COSINE",
    store_text=True,
    id_length=64,
    fields=FIELDS,
    fingerprint="0" * 32,
    model="none",
)
SETTINGS = {
    "1,000 keys, one query at a time": (1_000, 1),
    "4,000 keys, one at a time": (4_000, 1),
    "4,000 keys, eight at a time": (4_000, 8),
}


def proving(sizes: Sizes) -> Outcome:
    """The proof and the script, side by side on one server."""
    count = sizes.rows_or(ROWS, quick=10_000)
    with own_folder() as folder, milvus_process(ends_with_us=True) as milvus:
        paths = list(write_parts(folder, count))
        collection = _filled(milvus.uri, paths)
        contenders: dict[str, Callable[[], Mapping[str, float]]] = {"proof": partial(_prove, collection, paths, count)}
        keys = [key for path in paths for key in read_part(path.read_bytes())[0]["id"].to_pylist()]
        for name, (size, threads) in SETTINGS.items():
            contenders[name] = partial(_query, milvus.uri, keys, size, threads)
        results = compare(contenders, sizes.rounds)
        collection.target.close()
    rate = results["proof"]["rows/s"].median
    conclusions = [f"the proof: {rate / results[name]['rows/s'].median:.2f} times the queries alone, {name}" for name in SETTINGS]
    return Outcome(title=f"Proving {count:,} rows of {DIM} dimensions", results=results, conclusions=conclusions, drawn="rows/s")


def _filled(uri: str, paths: list[Path]) -> MilvusCollection:
    collection = MilvusTarget(uri).collection(SPEC.name)
    collection.ensure(SPEC)
    for path in paths:
        load_part(collection, read_part(path.read_bytes())[0], "s")
    collection.flush_and_index()
    return collection


def _seal(paths: list[Path], count: int) -> tuple[Seal, ReadPart]:
    tables = {str(path): path.stat().st_size for path in paths}
    rows = {str(path): read_part(path.read_bytes())[0].num_rows for path in paths}
    parts = tuple(Part(key=key, first=0, stop=rows[key], rows=rows[key], bytes=size, sha256="") for key, size in tables.items())
    seal = Seal(
        shard="s",
        name="s",
        group="s",
        run="r",
        attempt="a",
        dim=DIM,
        source_rows=count,
        embedded=count,
        duplicates=0,
        quarantined=(),
        parts=parts,
        seconds=0,
        sealed_at="",
    )
    return seal, lambda part: read_part(Path(part.key).read_bytes())[0]


def _prove(collection: MilvusCollection, paths: list[Path], count: int) -> Mapping[str, float]:
    seal = _seal(paths, count)
    begun = time.perf_counter()
    proof = prove(collection, [seal], full=True, least_recall=0)  # vectors are random, which no index finds well
    seconds = time.perf_counter() - begun
    assert proof.proved, proof.reasons
    assert proof.compared == count
    return {"rows/s": count / seconds, "seconds": seconds}


def _query(uri: str, keys: list[str], size: int, threads: int) -> Mapping[str, float]:
    client = MilvusClient(uri)
    chosen = [keys[first : first + size] for first in range(0, len(keys), size)]
    fields = list(columns_of(SPEC))

    def ask(some: list[str]) -> int:
        return len(client.query(SPEC.name, filter=among("id", some), output_fields=fields, consistency_level="Strong", timeout=60))

    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        found = sum(pool.map(ask, chosen))
    seconds = time.perf_counter() - begun
    client.close()
    assert found == len(keys)
    return {"rows/s": found / seconds, "seconds": seconds}
