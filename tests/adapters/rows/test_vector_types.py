"""Vectors in the type that a collection stores: what conversion makes of them, and the way there and back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.rows.vectors.vector_types import DTYPES, narrow, rounded, widen
from tasks.adapters.targets.verification import prove
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.index import VectorType
from tests.builders.collections import asked, part_of, seal_of, spec_of, vectors_in

LOWEST = {"float32": 1 - 1e-12, "float16": 0.9999999, "bfloat16": 0.999995, "int8": 0.9999}
NARROW: list[VectorType] = ["float16", "bfloat16", "int8"]


def unit(rows: int, dim: int = 384) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)


@pytest.mark.parametrize("kind", ["float32", *NARROW])
def test_a_vector_hardly_turns(kind):
    vectors = unit(1_000)
    stored = narrow(vectors, kind)
    assert stored.dtype == DTYPES[kind]
    assert cosines(vectors, widen(stored, kind)).min() >= LOWEST[kind]


@pytest.mark.parametrize("kind", NARROW)
def test_what_is_stored_stays_what_it_is_when_it_is_stored_again(kind):
    once = rounded(unit(100), kind)
    np.testing.assert_array_equal(rounded(once, kind), once)


def test_bfloat16_is_the_nearest_and_of_two_the_even_one():
    vectors = np.array([[1.0, 1 + 2**-8, 1 + 2**-7 + 2**-8, 1 + 2**-8 + 2**-20, -3e38]], np.float32)
    assert rounded(vectors, "bfloat16")[0, :4].tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]
    assert np.isfinite(rounded(vectors, "bfloat16")).all()


def test_int8_stretches_each_vector_to_its_full_range():
    vectors = np.array([[0.1, -0.4, 0.0], [5.0, 1.0, -5.0], [0.0, 0.0, 0.0]], np.float32)
    assert narrow(vectors, "int8").tolist() == [[32, -127, 0], [127, 25, -127], [0, 0, 0]]


def test_a_number_beyond_float16_is_said():
    with pytest.raises(Permanent, match=r"65,504: set target\.vector_type to bfloat16"):
        narrow(np.array([[1e5, 0]], np.float32), "float16")


@pytest.mark.parametrize("kind", NARROW)
def test_no_vectors_are_no_vectors(kind):
    assert narrow(np.empty((0, 4), np.float32), kind).shape == (0, 4)


# ---- there and back ----


@pytest.fixture(params=NARROW)
def collection(request: pytest.FixtureRequest, narrow_milvus: str) -> Iterator[MilvusCollection]:
    made = MilvusTarget(narrow_milvus).collection("c")
    made.ensure(spec_of("c", vector_type=request.param))
    yield made
    made.target.close()


@pytest.mark.parametrize("columns", [True, False])
def test_a_collection_gives_back_what_conversion_makes(collection, columns):
    collection._columns = columns
    part = part_of([f"k{i}" for i in range(200)])
    collection.upsert(part)
    kind, vectors = collection.describe().vector_type, vectors_in(part)
    keys, found = collection.fetch(part["id"].to_pylist()[::-1])
    assert keys == part["id"].to_pylist()[::-1]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rounded(vectors, kind)[::-1])
    for number, (hit,) in enumerate(collection.search(vectors[:20], 1)):
        assert hit.id == f"k{number}"
        assert hit.score == pytest.approx(1, abs=1e-5)


def test_it_is_proved_and_another_vector_is_found(collection):
    seals = [seal_of("s0", part_of([f"k{i}" for i in range(100)], shard="s0"))]
    collection.upsert(seals[0][1]["shards/s0/part-0"])
    proof = prove(collection, asked(seals))
    assert (proof.proved, proof.recall_at_10) == (True, 1.0)
    assert proof.lowest_cosine is not None
    assert 0.999 < proof.lowest_cosine < 1  # to what is sealed
    assert f"over {collection.describe().vector_type}" in proof.index
    collection.upsert(part_of(["k3"], shard="s0", seed=99))
    assert any("key 'k3' differs from its seal in vector" in reason for reason in prove(collection, asked(seals)).reasons)


def test_another_type_than_the_collections_is_refused_with_both_named(collection, narrow_milvus):
    there = collection.describe().vector_type
    other = MilvusTarget(narrow_milvus).collection("c")
    with pytest.raises(BadInput, match=rf"vectors of {there}, the job float32"):
        other.check(spec_of("c"))
    other.target.close()
