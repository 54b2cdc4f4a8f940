from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.batches import histogram, padded_size, plan_batches, upper_edge

sizes = st.lists(st.integers(0, 600), max_size=200)


@given(sizes, st.integers(1, 2000), st.integers(1, 64))
def test_every_row_is_in_one_batch(sizes: list[int], budget: int, rows: int) -> None:
    batches = plan_batches(sizes, budget=budget, rows=rows)
    assert sorted(row for batch in batches for row in batch) == list(range(len(sizes)))


@given(sizes, st.integers(1, 2000), st.integers(1, 64))
def test_budget_and_row_cap_are_kept_except_by_a_row_that_is_alone(sizes: list[int], budget: int, rows: int) -> None:
    for batch in plan_batches(sizes, budget=budget, rows=rows):
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(sizes[i] for i in batch) <= budget


@given(sizes)
def test_no_two_neighbouring_batches_would_fit_into_one(sizes: list[int]) -> None:
    batches = plan_batches(sizes, budget=512, rows=32)
    for one, next_one in itertools.pairwise(batches):
        grown = [*one, next_one[0]]
        assert len(grown) > 32 or padded_size(grown, sizes) > 512


def test_rows_of_one_length_come_together() -> None:
    assert plan_batches([3, 50, 3, 50], budget=100, rows=8) == [[1, 3], [0, 2]]


@pytest.mark.parametrize(("size", "edge"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (256, 256), (257, 512)])
def test_bins_have_powers_of_two_as_upper_edges(size: int, edge: int) -> None:
    assert upper_edge(size) == edge


@given(sizes)
def test_histogram_counts_every_row(sizes: list[int]) -> None:
    assert sum(histogram(sizes).values()) == len(sizes)
