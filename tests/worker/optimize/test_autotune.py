"""What is measured of an encoder, on a clock that counts what batches cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from tasks.domain.encoder_identity import EncoderFacts
from tasks.worker.base import Vectors
from tasks.worker.batching import plan_batches
from tasks.worker.encoding_errors import OutOfMemory
from tasks.worker.optimize.autotune import Metered, TunedBatch, choose_backend, compare_backends, tune_batches, worth_measuring
from tests.builders.worker.fakes import FakeEncoder, FakeWork

SAMPLE = pa.table({"text": ["x" * 100] * 32})


class Work(FakeWork):
    budget = 0

    def plan(self, rows):
        return plan_batches([self.sizes[row] for row in rows], budget=self.budget, rows=256)


@dataclass
class Clocked(FakeEncoder):
    """Each token takes a millisecond, each call ten; a batch that leaves the cache, as much again; one that is enormous has no room."""

    allowed: tuple[int, ...] = (1_000, 500, 2_000, 4_000)
    cache: int = 2_500
    room: int = 10**9
    now: float = 0.0
    budget: int = 0
    calls: list[int] = field(default_factory=list)

    def facts(self) -> EncoderFacts:
        return EncoderFacts(dim=1, max_seq_length=None, precision="float32", device="cpu")

    def budgets(self) -> tuple[int, ...]:
        return self.allowed

    def set_batch_tokens(self, tokens: int) -> None:
        self.budget = tokens

    def prepare(self, rows: pa.Table) -> Work:
        work = Work(rows.column("text").to_pylist(), [len(text) for text in rows.column("text").to_pylist()])
        work.budget = self.budget
        return work

    def encode(self, contents: list[str]) -> Vectors:
        tokens = sum(map(len, contents))
        if tokens > self.room:
            raise OutOfMemory
        self.calls.append(tokens)
        self.now += (0.01 + tokens / 1000 * (2 if tokens > self.cache else 1)) * self.pace
        return np.ones((len(contents), 1), np.float32)

    pace: float = 0.01

    def clock(self) -> float:
        return self.now


def test_the_fastest_budget_is_taken() -> None:
    encoder = Clocked()
    found = tune_batches(encoder, SAMPLE, encoder.clock)
    assert found.tokens == encoder.budget == 1_000  # 2,000 saves half of the calls, which is less than noise
    encoder = Clocked(allowed=(500, 2_000, 4_000), pace=0.001)
    assert tune_batches(encoder, SAMPLE, encoder.clock).tokens == 500
    encoder = Clocked(allowed=(100, 2_000, 4_000))
    assert tune_batches(encoder, SAMPLE, encoder.clock).tokens == encoder.budget == 2_000


def test_every_budget_has_the_same_rows_and_fills_a_batch() -> None:
    encoder = Clocked()
    tune_batches(encoder, SAMPLE, encoder.clock)
    assert max(encoder.calls) == 4_000
    assert sum(encoder.calls) == 3_200 + 2 * 4 * 6_400


def test_a_slow_model_is_not_measured_for_longer_than_seconds() -> None:
    encoder = Clocked(pace=1.0)
    assert tune_batches(encoder, SAMPLE, encoder.clock).tokens is not None
    assert encoder.now < 20  # one row of 100 tokens takes a tenth of a second here: a pass over the sample, more than three
    assert max(encoder.calls) < 4_000


def test_a_budget_that_has_no_room_is_not_taken() -> None:
    encoder = Clocked(room=1_500, allowed=(100, 2_000))
    assert tune_batches(encoder, SAMPLE, encoder.clock).tokens == encoder.budget == 100


def test_a_budget_that_the_job_names_leaves_nothing_to_measure() -> None:
    encoder = Clocked(allowed=())
    assert not worth_measuring(encoder, SAMPLE, None, 1, encoder.clock)


def test_little_work_is_begun_at_once() -> None:
    """A row takes a millisecond here: a minute of work is 60,000 rows, and two processes do twice as much."""
    encoder = Clocked()
    assert not worth_measuring(encoder, SAMPLE, 50_000, 1, encoder.clock)
    assert worth_measuring(encoder, SAMPLE, 70_000, 1, encoder.clock)
    assert not worth_measuring(encoder, SAMPLE, 70_000, 2, encoder.clock)
    assert worth_measuring(encoder, SAMPLE, None, 2, encoder.clock)
    assert not worth_measuring(encoder, SAMPLE.slice(0, 0), None, 1, encoder.clock)
    assert not worth_measuring(encoder, SAMPLE, 150_000, 1, encoder.clock, seconds=180)


def test_what_a_comparison_has_shown_to_be_little_is_not_tried_again() -> None:
    encoder = Clocked(budget=1_000)
    metered = Metered(encoder, encoder.clock)
    for rows in (32, 8):  # the first call of a process is not what a row takes
        assert metered.row_seconds is None
        metered.encode(SAMPLE.column("text").to_pylist()[:rows])
    assert metered.row_seconds == pytest.approx((0.01 + 0.8) * 0.01 / 8)
    before = encoder.now
    assert not worth_measuring(encoder, SAMPLE, 50_000, 1, encoder.clock, at_most=metered.row_seconds)
    assert encoder.now == before
    assert worth_measuring(encoder, SAMPLE, 100_000, 1, encoder.clock, at_most=metered.row_seconds)
    assert worth_measuring(encoder, SAMPLE, None, 1, encoder.clock, at_most=metered.row_seconds)


def test_backends_are_held_against_each_other_in_turn() -> None:
    """The second was measured while other programs had the processor."""
    slow, fast = Clocked(budget=1_000), Clocked(budget=1_000, pace=0.005)
    found = {"torch": TunedBatch(tokens=1_000, row_seconds=0.001), "openvino": TunedBatch(tokens=500, row_seconds=0.003)}
    raced = compare_backends({"torch": slow, "openvino": fast}, found, SAMPLE, lambda: slow.now + fast.now)
    assert choose_backend(raced).backend == "openvino"
    assert raced["torch"].tokens == 1_000


def test_openvino_has_to_be_clearly_faster() -> None:
    torch = TunedBatch(tokens=1_000, row_seconds=0.0100)
    assert choose_backend({"torch": torch, "openvino": TunedBatch(tokens=500, row_seconds=0.0099)}).backend == "torch"
    faster = choose_backend({"torch": torch, "openvino": TunedBatch(tokens=500, row_seconds=0.0080)}, "a remark")
    assert (faster.backend, faster.batch_tokens) == ("openvino", 500)
    assert (
        faster.note
        == "openvino, batches of 500 tokens: measured on the sample, torch 100 rows/s and openvino 125 rows/s per process; a remark"
    )
