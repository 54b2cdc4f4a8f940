"""Calls ahead of their use: several at a time, in order, and no further than needed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from tasks.adapters.concurrent_map import ahead


def test_results_come_in_order() -> None:
    assert list(ahead(lambda n: n * n, range(1_000))) == [n * n for n in range(1_000)]


def test_calls_are_made_side_by_side() -> None:
    """Each waits for three others: one after the other, none would ever end."""
    together = threading.Barrier(4, timeout=30)
    assert len(list(ahead(lambda _: together.wait(), range(8), at_once=4))) == 8


def test_an_error_comes_in_its_turn_and_ends_it() -> None:
    def call(n: int) -> int:
        return 10 // (3 - n)

    found = ahead(call, range(10), at_once=2)
    assert list(itertools.islice(found, 3)) == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_a_stream_is_taken_only_as_far_as_it_is_needed() -> None:
    taken: list[int] = []

    def values() -> Iterator[int]:
        for n in itertools.count():
            taken.append(n)
            yield n

    found = ahead(lambda n: n, values(), at_once=3)
    assert next(found) == 0
    found.close()
    assert len(taken) == 6
