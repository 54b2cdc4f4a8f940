"""Sparse vectors go into a part and come out bit by bit, and their products are those of the dense ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.checkpoint.part_files import META, PartMeta, part_vectors, read_part, vector_column, write_part
from tasks.adapters.rows.collection_rows import upsert_vectors
from tasks.adapters.rows.row_schema import part_schema
from tasks.adapters.rows.vectors.sparse_vectors import (
    PackedFile,
    as_mapping,
    as_rows_of,
    densest,
    from_mapping,
    pack,
    products,
    sparse_column,
    values_finite,
)
from tasks.adapters.targets.memory_collection import score
from tasks.domain.errors import Permanent

DIM = 50
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(bool)
vectors = st.lists(st.dictionaries(st.integers(0, DIM - 1), numbers, min_size=1, max_size=8), min_size=1, max_size=6)


def dense(rows: list[dict[int, float]]) -> np.ndarray:
    made = np.zeros((len(rows), DIM), np.float32)
    for place, row in enumerate(rows):
        made[place, list(row)] = list(row.values())
    return made


def packed(rows: list[dict[int, float]]) -> np.ndarray:
    return as_rows_of([from_mapping(row) for row in rows])


def part(rows: np.ndarray) -> pa.Table:
    schema = part_schema((), store_text=False, sparse=True)
    return pa.table({"id": [f"k{n}" for n in range(len(rows))], "vector": vector_column(rows), "shard": ["s"] * len(rows)}, schema=schema)


@given(vectors)
def test_a_part_gives_back_every_weight_and_says_that_older_versions_cannot_read_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[int, float]]
) -> None:
    path = tmp_path_factory.mktemp("part") / "part.parquet"
    write_part(path, part(packed(rows)), PartMeta(shard="s", first=0, stop=len(rows)))
    back, meta = read_part(path.read_bytes())
    assert meta.format_version == 3
    assert [as_mapping(row) for row in part_vectors(back)] == [dict(sorted(row.items())) for row in rows]
    assert (upsert_vectors(back, DIM) == packed(rows)).all()


@given(vectors)
def test_packing_puts_dimensions_in_order_and_leaves_zeros_out(rows: list[dict[int, float]]) -> None:
    flat = [(term, weight) for row in rows for term, weight in [*reversed(row.items()), (DIM, 0.0)]]
    offsets = np.cumsum([0, *(len(row) + 1 for row in rows)])
    made = pack(offsets, np.array([term for term, _ in flat]), np.array([weight for _, weight in flat], np.float32))
    assert (made == packed(rows)).all()


def test_products_are_those_of_dense_vectors_and_a_few_dimensions_are_the_heaviest() -> None:
    chance = np.random.default_rng(3)
    rows = [{int(t): float(np.float32(chance.random() + 0.1)) for t in chance.choice(DIM, 6, replace=False)} for _ in range(20)]
    whole, few = dense(rows), packed(rows)
    np.testing.assert_allclose(products(few[:5], few), whole[:5] @ whole.T, rtol=1e-5)
    np.testing.assert_allclose(score(few[:5], few, "IP"), score(whole[:5], whole, "IP"), rtol=1e-5)
    heaviest = np.argsort(-(whole.astype(float) ** 2).sum(axis=0), kind="stable")[:4]
    np.testing.assert_allclose(densest(few, 4), whole[:, heaviest], rtol=1e-6)


def test_rows_are_mapped_from_a_file_of_scratch(tmp_path: Path) -> None:
    rows = packed([{1: 2.0}, {3: 1.5, 4: -1.0}, {0: 1e-40}])  # the last ends in a byte of zero
    PackedFile.write(tmp_path / "rows", rows)
    assert (PackedFile(tmp_path / "rows")[np.array([2, 0, 2])] == rows[[2, 0, 2]]).all()


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (sparse_column([from_mapping({1: 1.0}), None]), "missing or incomplete"),
        (sparse_column([b""]), "missing or incomplete"),
        (sparse_column([from_mapping({DIM: 1.0})]), "not of the collection's 50 dimensions"),
    ],
)
def test_a_vector_that_is_missing_empty_or_too_long_is_refused(column: pa.Array, told: str) -> None:
    with pytest.raises(Permanent, match=told):
        upsert_vectors(pa.table({"vector": column}), DIM)


def test_a_weight_that_is_no_number_is_seen() -> None:
    assert values_finite(packed([{1: 1.0}, {1: 1.0, 2: float("nan")}, {4: float("inf")}])).tolist() == [True, False, False]


def test_what_milvus_imports_stands_in_the_file(tmp_path: Path) -> None:
    """Its importer takes a sparse vector as a struct of `indices` and `values`."""
    write_part(tmp_path / "p", part(packed([{7: 0.5, 2: 1.5}])), PartMeta(shard="s", first=0, stop=1))
    assert pq.read_table(tmp_path / "p")["vector"].to_pylist() == [{"indices": [2, 7], "values": [1.5, 0.5]}]
    assert b'"format_version":3' in pq.read_schema(tmp_path / "p").metadata[META]
