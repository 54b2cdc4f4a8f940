from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.encoding.length_bins import histogram, upper_edge
from tasks.worker.batching import EXACT_ROWS, SHARE_OF_A_CALL, padded_size, plan_batches

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


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(20, 200), st.integers(1, 6))
def test_no_other_cut_pads_and_calls_less(sizes: list[int], budget: int, rows: int) -> None:
    def cost(batches: Iterable[Sequence[int]]) -> float:
        return sum(len(batch) * max(batch) + budget * SHARE_OF_A_CALL for batch in batches)

    def cuts(rest: list[int]) -> Iterator[list[list[int]]]:
        if not rest:
            yield []
        for size in range(1, len(rest) + 1):
            if size == 1 or (size <= rows and size * rest[0] <= budget):
                yield from ([rest[:size], *others] for others in cuts(rest[size:]))

    planned = [[sizes[i] for i in batch] for batch in plan_batches(sizes, budget=budget, rows=rows)]
    assert cost(planned) == pytest.approx(min(map(cost, cuts(sorted(sizes, reverse=True)))))


def test_of_very_many_rows_a_batch_takes_all_that_fit() -> None:
    sizes = [1 + number % 300 for number in range(3 * EXACT_ROWS)]
    batches = plan_batches(sizes, budget=512, rows=32)
    assert sorted(row for batch in batches for row in batch) == list(range(len(sizes)))
    for one, next_one in itertools.pairwise(batches):
        assert len(one) <= 32
        assert len(one) == 1 or padded_size(one, sizes) <= 512
        grown = [*one, next_one[0]]
        assert len(grown) > 32 or padded_size(grown, sizes) > 512


def test_a_short_row_is_not_padded_to_a_long_one_where_a_call_of_its_own_costs_less() -> None:
    assert plan_batches([4, 400, 4, 4], budget=1024, rows=8) == [[1], [0, 2, 3]]
    assert plan_batches([390, 400], budget=1024, rows=8) == [[1, 0]]


def test_rows_of_one_length_come_together() -> None:
    assert plan_batches([3, 50, 3, 50], budget=100, rows=8) == [[1, 3], [0, 2]]


@pytest.mark.parametrize(("size", "edge"), [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 32), (256, 256), (257, 512)])
def test_bins_have_powers_of_two_as_upper_edges(size: int, edge: int) -> None:
    assert upper_edge(size) == edge


@given(sizes)
def test_histogram_counts_every_row(sizes: list[int]) -> None:
    assert sum(histogram(sizes).values()) == len(sizes)
