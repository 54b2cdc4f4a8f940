"""Measures the best batch size in tokens and the fastest backend on the sample, if there is enough work to repay it.

With too few tokens, calling the model costs more than its arithmetic; with too many, a batch no longer fits into the caches.
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

# Seconds of work above which measuring saves more than it costs. It takes about three seconds per backend. Another backend may save
# a fifth of the work; the best number of tokens saved at most a fiftieth compared with the default, where it was measured.
WORTH_BACKENDS, WORTH_TOKENS = 60.0, 180.0
WORTH_INT8 = 1800.0  # quantising takes half a minute, and the result only helps another run
WORTHWHILE_SPEEDUP = 2.0
MEASURING_SECONDS = 1.0  # per backend
ROUND_SECONDS = 0.4  # per round and backend
TIMING_ROUNDS = 2

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedBatch:
    """The fastest batch size of an encoder. `tokens` is None if only one size was tried."""

    tokens: int | None
    row_seconds: float


class Metered:
    """Times an encoder's `encode`, so that a comparison of vectors also measures the time per row."""

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
        """Seconds per row without the slow first call; None after fewer than two calls. Planned batches are faster."""
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
    """Return whether the remaining work takes so long with the current backend that measuring pays off.

    Args:
        encoder: the model on the current backend.
        sample: rows to measure with.
        rows: number of remaining rows; None: unknown.
        ranks: number of ranks that share the rows.
        clock: returns seconds.
        seconds: seconds of work above which measuring pays off.
        at_most: upper bound of seconds per row, from unplanned batches; if even that gives too little work, nothing is measured.
    """
    if not sample.num_rows or not encoder.budgets():
        return False
    if rows is not None and at_most is not None and at_most * rows / ranks < seconds:
        return False
    _seconds(encoder, sample, clock)  # the first batches of a process are slow
    return rows is None or _seconds(encoder, sample, clock) / sample.num_rows * rows / ranks >= seconds


def tune_batches(encoder: LoadedEncoder, sample: pa.Table, clock: Clock = time.perf_counter) -> TunedBatch:
    """Encode the same rows with every batch size in alternation; set the encoder to the fastest."""
    usual, *others = encoder.budgets()
    encoder.set_batch_tokens(usual)
    once = _seconds(encoder, sample, clock)
    rows = _repeated(encoder, sample, [usual, *others], allowed=MEASURING_SECONDS / (TIMING_ROUNDS * (1 + len(others))) / max(once, 1e-9))
    tried = [usual, *(tokens for tokens in others if tokens <= _tokens(encoder, rows))]
    took = _in_turn(encoder, rows, tried, clock)
    best = min(tried, key=lambda tokens: took[tokens] * (1 if tokens == usual else GAIN))
    encoder.set_batch_tokens(best)
    return TunedBatch(tokens=best if len(tried) > 1 else None, row_seconds=took[best] / rows.num_rows)


def compare_backends(
    encoders: Mapping[Backend, LoadedEncoder], tuned: Mapping[Backend, TunedBatch], sample: pa.Table, clock: Clock = time.perf_counter
) -> dict[Backend, TunedBatch]:
    """Encode the same rows with the backends in alternation, so that a disturbance by other programs affects all of them."""
    slowest = max(measured.row_seconds for measured in tuned.values()) * sample.num_rows
    rows = pa.concat_tables([sample] * max(1, int(ROUND_SECONDS / max(slowest, 1e-9))))
    took: dict[Backend, float] = {}
    for backend in [*encoders] * TIMING_ROUNDS:
        took[backend] = min(took.get(backend, float("inf")), _seconds(encoders[backend], rows, clock) / rows.num_rows)
    return {backend: replace(measured, row_seconds=took[backend]) for backend, measured in tuned.items()}


def choose_backend(tuned: Mapping[Backend, TunedBatch], remark: str = "") -> Tuning:
    """Choose the fastest backend; torch if it is about as fast."""
    best = min(tuned, key=lambda backend: tuned[backend].row_seconds * (1 if backend == "torch" else GAIN))
    tokens = tuned[best].tokens
    rates = [f"{backend} {1 / measured.row_seconds:,.0f} rows/s" for backend, measured in tuned.items()]
    batches = f", batches of {tokens:,} tokens" if tokens else ""
    note = f"{best}{batches}: measured on the sample, {' and '.join(rates)} per process"
    return Tuning(backend=best, batch_tokens=tokens, note="; ".join(filter(None, (note, remark))))


def int8_remark(int8: LoadedEncoder, exact: LoadedEncoder, sample: pa.Table, row_seconds: float) -> str:
    """Return a remark with int8's speed-up and its cosine to float32; empty if int8 is not at least twice as fast.

    Args:
        int8: the quantised model.
        exact: the model in float32.
        sample: rows to measure with.
        row_seconds: seconds per row of the run's backend and precision.
    """
    speedup = row_seconds / tune_batches(int8, sample).row_seconds
    if speedup < WORTHWHILE_SPEEDUP:
        return ""
    mean = float(sample_cosines(exact, int8, lambda encoder: encoder.prepare(sample)).mean())
    return f"int8 would be {speedup:.1f} times as fast (mean cosine to float32 {mean:.4f}): encoder.precision: int8 is a different encoder"


def _in_turn(encoder: LoadedEncoder, rows: pa.Table, tried: list[int], clock: Clock) -> dict[int, float]:
    """Return the minimum of seconds for each batch size: disturbances only lengthen a measurement."""
    took: dict[int, float] = {}
    began = clock()
    for _ in range(TIMING_ROUNDS):
        for tokens in tried:
            encoder.set_batch_tokens(tokens)
            took[tokens] = min(took.get(tokens, float("inf")), _seconds(encoder, rows, clock))
        if clock() - began > MEASURING_SECONDS:
            break
    return took


def _seconds(encoder: LoadedEncoder, rows: pa.Table, clock: Clock) -> float:
    """Return the seconds of encoding the rows; infinity if a batch does not fit into memory or a row is bad."""
    work = encoder.prepare(rows)
    began = clock()
    try:
        for batch in work.load(work.plan(range(rows.num_rows)), alone=True):
            encoder.encode(batch.contents)
    except Fatal:
        raise
    except OutOfMemory:
        return float("inf")
    except Exception:  # noqa: BLE001 - encoding will quarantine the bad row later
        return float("inf")
    return clock() - began


def _repeated(encoder: LoadedEncoder, sample: pa.Table, budgets: list[int], *, allowed: float) -> pa.Table:
    """Repeat the sample until it fills the largest batch size, within the allowed number of repetitions."""
    repetitions = -(-max(budgets) // max(1, _tokens(encoder, sample)))
    return pa.concat_tables([sample] * max(1, min(repetitions, int(allowed))))


def _tokens(encoder: LoadedEncoder, rows: pa.Table) -> int:
    return sum(encoder.prepare(rows).sizes)
