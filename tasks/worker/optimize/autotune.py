"""The best batch size in tokens, and the fastest backend: measured on the sample, where the work is worth it.

Too few tokens, and calling the model costs more than its arithmetic; too many, and a batch leaves the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tasks.domain.encoding.tuning import GAIN, Backend, Tuning
from tasks.worker.base import LoadedEncoder, Vectors
from tasks.worker.encoding_errors import Fatal, OutOfMemory
from tasks.worker.optimize.precision import sample_cosines

# Seconds of work from which measuring gives more than it costs. It takes some three seconds for each backend; another backend may
# save a fifth of the work, the best number of tokens saved at most a fiftieth over the usual one where it was measured.
WORTH_BACKENDS, WORTH_TOKENS = 60.0, 180.0
WORTH_INT8 = 1800.0  # quantising takes half a minute, and what is learnt is for another run
TWICE = 2.0
MEASURING_SECONDS = 1.0  # for each backend
RACE_SECONDS = 0.4  # for each turn of each backend
TIMING_ROUNDS = 2

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBatch:
    """The best budget of an encoder. `tokens`: None where there was nothing to choose from."""

    tokens: int | None
    row_seconds: float


class Metered:
    """An encoder's `encode`, timed: the comparison also gives the time for a row."""

    def __init__(self, encoder: LoadedEncoder, clock: Clock = time.perf_counter) -> None:
        self._encoder, self._clock = encoder, clock
        self._taken: list[tuple[int, float]] = []

    def encode(self, contents: Sequence[Any]) -> Vectors:
        began = self._clock()
        vectors = self._encoder.encode(contents)
        self._taken.append((len(contents), self._clock() - began))
        return vectors

    @property
    def row_seconds(self) -> float | None:
        """Seconds for a row, without the slow first call; None for fewer than two calls. Planned batches take less."""
        later = self._taken[1:]
        rows = sum(rows for rows, _ in later)
        return sum(seconds for _, seconds in later) / rows if rows else None


def worth_measuring(
    encoder: LoadedEncoder,
    sample: pa.Table,
    rows: int | None,
    ranks: int,
    clock: Clock = time.perf_counter,
    *,
    seconds: float = WORTH_BACKENDS,
    at_most: float | None = None,
) -> bool:
    """Whether the remaining work takes so long with the present backend that measuring pays off.

    Args:
        encoder: the present backend.
        sample: rows of the work.
        rows: how many there are; None: unknown.
        ranks: that share them.
        clock: seconds.
        seconds: of work from which it does.
        at_most: seconds of a row in batches that were not planned, which take longer; where that is too little work, nothing is tried.
    """
    if not sample.num_rows or not encoder.budgets():
        return False
    if rows is not None and at_most is not None and at_most * rows / ranks < seconds:
        return False
    _seconds(encoder, sample, clock)  # the first batches of a process are slow
    return rows is None or _seconds(encoder, sample, clock) / sample.num_rows * rows / ranks >= seconds


def tune_batches(encoder: LoadedEncoder, sample: pa.Table, clock: Clock = time.perf_counter) -> TunedBatch:
    """Encode the same rows in batches of every budget, in turn, and leave the encoder at the fastest."""
    usual, *others = encoder.budgets()
    encoder.take_budget(usual)
    once = _seconds(encoder, sample, clock)
    rows = _repeated(encoder, sample, [usual, *others], allowed=MEASURING_SECONDS / (TIMING_ROUNDS * (1 + len(others))) / max(once, 1e-9))
    tried = [usual, *(tokens for tokens in others if tokens <= _tokens(encoder, rows))]
    took = _in_turn(encoder, rows, tried, clock)
    best = min(tried, key=lambda tokens: took[tokens] * (1 if tokens == usual else GAIN))
    encoder.take_budget(best)
    return TunedBatch(tokens=best if len(tried) > 1 else None, row_seconds=took[best] / rows.num_rows)


def race(
    encoders: Mapping[Backend, LoadedEncoder], found: Mapping[Backend, TunedBatch], sample: pa.Table, clock: Clock = time.perf_counter
) -> dict[Backend, TunedBatch]:
    """Encode the same rows with every backend, in turn: other programs may disturb measurements that are made one after the other."""
    slowest = max(measured.row_seconds for measured in found.values()) * sample.num_rows
    rows = pa.concat_tables([sample] * max(1, int(RACE_SECONDS / max(slowest, 1e-9))))
    took: dict[Backend, float] = {}
    for backend in [*encoders] * TIMING_ROUNDS:
        took[backend] = min(took.get(backend, float("inf")), _seconds(encoders[backend], rows, clock) / rows.num_rows)
    return {backend: replace(measured, row_seconds=took[backend]) for backend, measured in found.items()}


def compare(found: Mapping[Backend, TunedBatch], remark: str = "") -> Tuning:
    """The fastest backend; torch where it is about as fast."""
    best = min(found, key=lambda backend: found[backend].row_seconds * (1 if backend == "torch" else GAIN))
    tokens = found[best].tokens
    words = [f"{backend} {1 / measured.row_seconds:,.0f} rows/s" for backend, measured in found.items()]
    batches = f", batches of {tokens:,} tokens" if tokens else ""
    note = f"{best}{batches}: measured on the sample, {' and '.join(words)} a process"
    return Tuning(backend=best, batch_tokens=tokens, note="; ".join(filter(None, (note, remark))))


def told_of_int8(int8: LoadedEncoder, exact: LoadedEncoder, sample: pa.Table, row_seconds: float) -> str:
    """That int8 would be twice as fast, and how far its vectors are from float32's; "": it would not be.

    Args:
        int8: quantised.
        exact: in float32.
        sample: rows to measure with.
        row_seconds: of what the run uses.
    """
    times = row_seconds / tune_batches(int8, sample).row_seconds
    if times < TWICE:
        return ""
    mean = float(sample_cosines(exact, int8, lambda encoder: encoder.prepare(sample)).mean())
    return f"int8 would be {times:.1f} times as fast (mean cosine to float32 {mean:.4f}): encoder.precision: int8 is another encoder"


def _in_turn(encoder: LoadedEncoder, rows: pa.Table, tried: list[int], clock: Clock) -> dict[int, float]:
    """The least seconds of each budget: what disturbs a measurement makes it longer."""
    took: dict[int, float] = {}
    began = clock()
    for _ in range(TIMING_ROUNDS):
        for tokens in tried:
            encoder.take_budget(tokens)
            took[tokens] = min(took.get(tokens, float("inf")), _seconds(encoder, rows, clock))
        if clock() - began > MEASURING_SECONDS:
            break
    return took


def _seconds(encoder: LoadedEncoder, rows: pa.Table, clock: Clock) -> float:
    """What encoding takes; endless where it does not fit into memory or a row of the sample is bad."""
    work = encoder.prepare(rows)
    began = clock()
    try:
        for batch in work.load(work.plan(range(rows.num_rows)), alone=True):
            encoder.encode(batch.contents)
    except Fatal:
        raise
    except OutOfMemory:
        return float("inf")
    except Exception:  # noqa: BLE001 - the row will be found and set aside when its turn comes
        return float("inf")
    return clock() - began


def _repeated(encoder: LoadedEncoder, sample: pa.Table, budgets: list[int], *, allowed: float) -> pa.Table:
    """The sample as often as fills the largest budget, but not more often than the time allows."""
    wanted = -(-max(budgets) // max(1, _tokens(encoder, sample)))
    return pa.concat_tables([sample] * max(1, min(wanted, int(allowed))))


def _tokens(encoder: LoadedEncoder, rows: pa.Table) -> int:
    return sum(encoder.prepare(rows).sizes)
