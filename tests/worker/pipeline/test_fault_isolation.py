from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.worker.base import Vectors
from tasks.worker.encoding_errors import Fatal, OutOfMemory
from tasks.worker.pipeline.fault_isolation import FIRST_PATIENCE, FaultIsolatingRunner, RowsOutcome


@dataclass
class FakeModel:
    """Gives each number its own vector; breaks on chosen numbers, and on too many at once."""

    room: int = 10**9
    raises: set[int] = field(default_factory=set)
    poison: set[int] = field(default_factory=set)
    spreads: bool = False  # a poisoned row's NaN reaches its whole batch
    calls: list[int] = field(default_factory=list)

    def __call__(self, batch: Sequence[int]) -> Vectors:
        self.calls.append(len(batch))
        if len(batch) > self.room:
            raise OutOfMemory
        if self.raises & set(batch):
            raise ValueError("bad token\n(and a long explanation)")
        vectors = np.array([[n, -n - 1] for n in batch], dtype=np.float32)
        bad = [n in self.poison for n in batch]
        vectors[[any(bad)] * len(batch) if self.spreads else bad] = np.nan
        return vectors


def run(model: FakeModel, batch: list[int], size: int = 10) -> RowsOutcome:
    return FaultIsolatingRunner(model).run(batch, [size] * len(batch))


def vectors_of(outcome: RowsOutcome) -> dict[int, float]:
    return dict(zip(outcome.kept, np.concatenate(outcome.vectors)[:, 0] if outcome.vectors else [], strict=True))


def test_a_batch_that_works_is_one_call() -> None:
    model = FakeModel()
    assert vectors_of(run(model, [5, 6, 7])) == {0: 5, 1: 6, 2: 7}
    assert model.calls == [3]


@given(st.integers(1, 70), st.sets(st.integers(0, 69)), st.sets(st.integers(0, 69)), st.integers(1, 80), st.booleans())
def test_every_row_is_kept_with_its_own_vector_or_refused(count: int, raises: set[int], poison: set[int], room: int, spreads: bool) -> None:
    outcome = run(FakeModel(room=room, raises=raises, poison=poison, spreads=spreads), list(range(count)))
    bad = {n for n in raises | poison if n < count}
    assert {row for row, _ in outcome.refused} == bad
    assert vectors_of(outcome) == {n: n for n in range(count) if n not in bad}
    assert len(outcome.kept) + len(outcome.refused) == count


def test_a_row_that_raises_is_found_in_log2_steps_and_told_in_one_line() -> None:
    model = FakeModel(raises={77})
    outcome = run(model, list(range(128)))
    assert outcome.refused == [(77, "encoder: bad token")]
    assert len(model.calls) == 1 + 2 * 7


def test_a_row_that_gives_nan_is_set_aside_alone() -> None:
    assert run(FakeModel(poison={3}), [1, 2, 3]).refused == [(2, "not finite: the model gave NaN")]


def test_nan_that_spreads_over_a_batch_costs_only_the_row_it_came_from() -> None:
    outcome = run(FakeModel(poison={3}, spreads=True), [1, 2, 3, 4])
    assert outcome.refused == [(2, "not finite: the model gave NaN")]
    assert vectors_of(outcome) == {0: 1, 1: 2, 3: 4}


def test_a_vector_of_zeros_is_set_aside() -> None:
    runner: FaultIsolatingRunner[int] = FaultIsolatingRunner(lambda batch: np.array([[n, 0.0] for n in batch], dtype=np.float32))
    outcome = runner.run([1, 0, 2], [4, 4, 4])
    assert outcome.refused == [(1, "zero: the model returned a zero vector, as it does for unknown words")]
    assert vectors_of(outcome) == {0: 1, 2: 2}


def test_infinity_is_told_as_such() -> None:
    runner: FaultIsolatingRunner[int] = FaultIsolatingRunner(lambda batch: np.full((len(batch), 2), np.inf, dtype=np.float32))
    assert runner.run([1], [4]).refused == [(0, "not finite: the model gave Inf")]


def test_too_little_memory_halves_the_batch_and_loses_nothing() -> None:
    model = FakeModel(room=20)
    assert len(run(model, list(range(64))).kept) == 64
    assert model.calls[:3] == [64, 32, 16]


def test_the_size_that_fits_is_remembered_for_that_length_and_longer_ones() -> None:
    model = FakeModel(room=20)
    runner: FaultIsolatingRunner[int] = FaultIsolatingRunner(model)
    runner.run(list(range(64)), [100] * 64)
    model.calls.clear()
    runner.run(list(range(64)), [100] * 64)
    runner.run(list(range(64)), [400] * 64)
    assert max(model.calls) <= 20
    model.calls.clear()
    with_short_rows = runner.run(list(range(20)), [10] * 20)
    assert model.calls == [20]
    assert not with_short_rows.refused


def test_batches_grow_back_when_there_is_room_again() -> None:
    model = FakeModel(room=16)
    runner: FaultIsolatingRunner[int] = FaultIsolatingRunner(model)
    runner.run(list(range(64)), [10] * 64)
    model.room = 10**9
    for _ in range(60 * FIRST_PATIENCE):
        runner.run(list(range(64)), [10] * 64)
    model.calls.clear()
    runner.run(list(range(64)), [10] * 64)
    assert model.calls == [64]


def test_growing_back_gets_rarer_where_it_keeps_failing() -> None:
    model = FakeModel(room=16)
    runner: FaultIsolatingRunner[int] = FaultIsolatingRunner(model)
    for _ in range(400):
        runner.run(list(range(64)), [10] * 64)
    too_big = sum(1 for call in model.calls if call > 16)
    assert too_big < 0.02 * len(model.calls)


def test_a_single_row_that_does_not_fit_is_set_aside_with_its_length() -> None:
    outcome = run(FakeModel(room=0), [1, 2], size=9000)
    assert outcome.refused == [(0, "out of memory: 9000 tokens"), (1, "out of memory: 9000 tokens")]


def test_a_broken_device_is_no_rows_fault() -> None:
    def encode(batch: Sequence[int]) -> Vectors:
        raise Fatal

    with pytest.raises(Fatal):
        FaultIsolatingRunner(encode).run([1, 2], [1, 1])
