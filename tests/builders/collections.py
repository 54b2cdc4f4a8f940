"""Collections and their rows, and seals over those rows."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
from pymilvus import DataType, MilvusClient

from tasks.adapters.rows.row_schema import part_schema
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.fields import ScalarField

DIM = 8
FIELDS = (
    ScalarField(name="url", column="url", type="varchar"),
    ScalarField(name="year", column="Year", type="int64"),
    ScalarField(name="price", column="price", type="double"),
    ScalarField(name="fresh", column="fresh", type="bool"),
    ScalarField(name="tags", column="tags", type="json"),
)
NASTY = ["plain", 'q"uote', "a'b", "br{a}ce", "{", "new\nline", "car\rr", "t\tab", "back\\slash", "\\", '\\"', "\\n", '"; drop', "ünïcödé"]
NASTY += ["日本", "😀", "\x01", "\u2028", "%s", 'a"] or id != "', '" or shard != "', "\x7f", '"', "\ufeff", " ", "null", "\\u0041"]
NASTY += [
    "\0",
    "nul\0inside",
    '" or 1 == 1 or "',
    "' or 1 == 1 or '",
    '"] or id like "%',
    "%",
    "_",
    "a%",
    "{{x}}",
    "${x}",
    "{0}",
    "'",
    "''",
    "\\'",
    "\x08",
]
NASTY += [
    "\x0b",
    "\x85",
    "\x1b[2J",
    "\u202e",
    "e\u0301",
    "\u00e9",
    "/*",
    "--",
    "#",
    "\\x41",
    "\\101",
    "\\%",
    "\U0010ffff",
    "count(*)",
    "$meta",
]

Open = Callable[..., Collection]


def spec_of(name: str, **changes) -> CollectionSpec:
    given = {
        "name": name,
        "alias": f"{name}_alias",
        "dim": DIM,
        "metric": "COSINE",
        "store_text": True,
        "id_length": 512,
        "fields": FIELDS,
        "fingerprint": "0123456789abcdef" * 2,
        "model": "tests/tiny",
    }
    return CollectionSpec(**(given | changes))


def part_of(ids: list[str], *, shard: str = "s1", seed: int = 0, fields=FIELDS, **columns) -> pa.Table:
    """A part as the checkpoint holds it, with plain values where a test gives none."""
    n = len(ids)
    vectors = np.random.default_rng(seed).standard_normal((n, DIM)).astype(np.float32)
    plain = {
        "id": ids,
        "vector": list(vectors),
        "text": [f"text of {i}" for i in range(n)],
        "url": [f"https://example.org/{i}" for i in range(n)],
        "year": list(range(2000, 2000 + n)),
        "price": [i / 2 for i in range(n)],
        "fresh": [i % 2 == 0 for i in range(n)],
        "tags": [json.dumps({"n": i, "deep": [1, "ü"]}) for i in range(n)],
        "shard": [shard] * n,
    }
    schema = part_schema(fields, store_text=True)
    return pa.table({name: (plain | columns)[name] for name in schema.names}, schema=schema)


def vectors_in(part: pa.Table) -> np.ndarray:
    return np.array(part["vector"].to_pylist(), dtype=np.float32)


ARRAYS = (
    ScalarField(name="labels", column="labels", type="varchar[]"),
    ScalarField(name="sizes", column="sizes", type="int64[]"),
    ScalarField(name="shares", column="shares", type="double[]"),
    ScalarField(name="flags", column="flags", type="bool[]"),
)
LISTS = {
    "labels": [["a", "ü b"], [], None, ["b", "ü b", ""]],
    "sizes": [[1, -(2**62)], None, [], [7]],
    "shares": [None, [0.5, -1e300], [0.25], []],
    "flags": [[True, False], [], [False], None],
}

Parts = dict[str, pa.Table]


def seal_of(shard: str, *tables: pa.Table) -> tuple[Seal, Parts]:
    """A seal over tables, and what its parts hold by key."""
    keys = [f"shards/{shard}/part-{i}" for i in range(len(tables))]
    parts = tuple(Part(key=k, first=0, stop=t.num_rows, rows=t.num_rows, bytes=1, sha256="") for k, t in zip(keys, tables, strict=True))
    rows = sum(table.num_rows for table in tables)
    seal = Seal(
        shard=shard,
        name=f"file-{shard}",
        group=shard,
        run="r",
        attempt="a",
        dim=DIM,
        source_rows=rows,
        embedded=rows,
        duplicates=0,
        quarantined=(),
        parts=parts,
        seconds=0,
        sealed_at="",
    )
    return seal, dict(zip(keys, tables, strict=True))


def asked(seals: list[tuple[Seal, Parts]]):
    return [(seal, lambda part, parts=parts: parts[part.key]) for seal, parts in seals]


def stranger(uri: str, name: str) -> None:
    client = MilvusClient(uri)
    schema = client.create_schema(auto_id=False, description="mine")
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    client.close()
