"""Ranges add up end to end, and a sample says as much as it saw."""

from __future__ import annotations

from math import sqrt

import pytest
from pydantic import ValidationError

from tasks.domain.estimate.intervals import Range, between, exactly, mean_of, spread_of, the_longer
from tasks.domain.number_format import duration, number, size

small, large = Range(low=1, expected=2, high=4), Range(low=10, expected=20, high=30)


def test_arithmetic_takes_ranges_end_to_end() -> None:
    assert small + large == Range(low=11, expected=22, high=34)
    assert small * large == Range(low=10, expected=40, high=120)
    assert small * 3 == Range(low=3, expected=6, high=12)
    assert large / small == Range(low=2.5, expected=10, high=30)
    assert the_longer(small, Range(low=2, expected=2, high=3)) == Range(low=2, expected=2, high=4)
    assert 4 in small
    assert 4.01 not in small


@pytest.mark.parametrize("ends", [(2, 1, 3), (1, 4, 3), (-1, 0, 1), (0, 0, float("inf"))])
def test_a_range_goes_up_from_nothing_and_ends(ends: tuple[float, float, float]) -> None:
    low, expected, high = ends
    with pytest.raises(ValidationError):
        Range(low=low, expected=expected, high=high)


def test_the_mean_of_places_is_two_standard_errors_wide() -> None:
    """Means 2 and 5: variance 4.5, of two places, with six per cent of the rows seen."""
    error = 2 * sqrt(0.94 * 4.5 / 2)
    found = mean_of([[1, 2, 3], [4, 5, 6]], seen=0.06)
    assert (found.low, found.expected, found.high) == pytest.approx((3.5 - error, 3.5, 3.5 + error))


def test_one_place_is_judged_by_its_rows_and_one_row_by_nothing() -> None:
    error = 2 * sqrt(0.5 * (5 / 3) / 4)
    found = mean_of([[1, 2, 3, 4]], seen=0.5)
    assert (found.low, found.expected, found.high) == pytest.approx((2.5 - error, 2.5, 2.5 + error))
    assert mean_of([[5]], seen=0) == Range(low=0, expected=5, high=10)


def test_what_was_seen_whole_leaves_nothing_to_guess() -> None:
    assert mean_of([[1, 2, 3], [10]], seen=1) == exactly(4)
    assert mean_of([[], []], seen=0) == exactly(0)


def test_a_spread_is_what_was_seen_and_never_too_sure() -> None:
    assert spread_of([8, 10, 20], least=0.1) == Range(low=8, expected=10, high=20)
    assert spread_of([10], least=0.25) == Range(low=7.5, expected=10, high=12.5)
    assert spread_of([8, 12], expected=9, least=0.1) == Range(low=8, expected=9, high=12)


def test_numbers_read_well() -> None:
    assert [size(n) for n in (0, 812, 1_500, 999_700, 24e9, 3e15)] == ["0 B", "812 B", "1.5 kB", "1.0 MB", "24 GB", "3.0 PB"]
    assert [duration(n) for n in (0.84, 42, 192, 7_500)] == ["0.8 s", "42 s", "3 min 12 s", "2 h 5 min"]
    assert between(exactly(1_000), number) == "1,000"
    assert between(large, duration) == "20 s (10 s to 30 s)"
