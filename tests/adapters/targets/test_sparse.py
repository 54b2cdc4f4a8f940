"""Sparse vectors: one behaviour for the in-memory twin and Milvus Lite, both ways in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tasks.adapters.rows.row_schema import part_schema
from tasks.adapters.rows.vectors.sparse_vectors import as_rows_of, from_mapping, products, sparse_column, sparse_rows
from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText, Server
from tasks.domain.ports import Collection
from tasks.domain.target.collection import CollectionSpec, check_server
from tasks.domain.target.full_text import Fusion
from tests.builders.collections import Open, spec_of

DIM = 30_000
KEYS = ["a", "b", "c", "d"]
ROWS = [{7: 1.5, 29_999: 0.25}, {7: 0.5, 11: 2.0}, {0: 3.0}, {11: 1e-3, 12: 1.0}]


def sparse_spec(name: str, **more: object) -> CollectionSpec:
    return spec_of(name, fields=(), dim=DIM, metric="IP", sparse=True, **more)


def part(keys: list[str], rows: list[dict[int, float]], shard: str = "s1") -> pa.Table:
    vectors = sparse_column([from_mapping(row) for row in rows])
    columns = {"id": keys, "vector": vectors, "text": [f"row {key}" for key in keys], "shard": [shard] * len(keys)}
    return pa.table(columns, schema=part_schema((), store_text=True, sparse=True))


@pytest.fixture
def weighed(opening: Open, name: str) -> Collection:
    made = opening(name)
    made.ensure(sparse_spec(name, full_text=FullText()))
    made.upsert(part(KEYS, ROWS))
    made.flush_and_index()
    return made


@pytest.mark.parametrize("opening", ["memory", "lite", "lite rows"], indirect=True)
def test_what_was_put_in_comes_back_bit_by_bit_and_is_found(weighed: Collection, opening: Open, name: str) -> None:
    assert opening(name).describe() == sparse_spec(name, full_text=FullText())
    order, vectors = weighed.fetch([*KEYS, "nowhere"])
    assert order == KEYS
    assert (vectors == sparse_rows(part(KEYS, ROWS)["vector"])).all()
    queries = as_rows_of([from_mapping({7: 1.0, 12: 0.1}), from_mapping({0: 1.0})])
    exact = products(queries, vectors)
    for scores, hits in zip(exact, weighed.search(queries, 4), strict=True):
        assert {hit.id: hit.score for hit in hits if hit.score} == pytest.approx({KEYS[i]: scores[i] for i in np.flatnonzero(scores)})
    (both,) = weighed.search_hybrid(queries[:1], ["row b"], 2, Fusion())
    assert {hit.id for hit in both} == {"a", "b"}
    weighed.delete_keys(["a"])
    assert weighed.fetch(["a"])[0] == []


@pytest.mark.parametrize("opening", ["memory", "lite", "lite rows"], indirect=True)
def test_one_weight_that_differs_is_a_difference(weighed: Collection) -> None:
    assert weighed.compare(part(KEYS, ROWS)).differences == ()
    changed = [{7: 1.5, 29_998: 0.25}, {7: 0.5, 11: float(np.nextafter(np.float32(2), np.float32(3)))}, *ROWS[2:]]
    found = weighed.compare(part(KEYS, changed))
    assert [(each.key, each.kind) for each in found.differences] == [("a", "vector"), ("b", "vector")]
    assert found.lowest_cosine == pytest.approx(1.5**2 / (1.5**2 + 0.25**2))


def test_a_server_before_2_4_is_refused_with_the_version_that_has_them() -> None:
    with pytest.raises(BadInput, match=r"sparse vectors need Milvus 2\.4, and this is Milvus 2\.3\.5"):
        check_server(sparse_spec("c"), Server("Milvus", "v2.3.5"))
    check_server(sparse_spec("c"), Server("Milvus", "2.4.0"))
