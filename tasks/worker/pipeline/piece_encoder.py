"""Encodes one piece: runs its rows through the model in batches and returns the vectors in the source's order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.adapters.rows.vectors.sparse_vectors import no_vectors
from tasks.domain.encoding.protocol import Heartbeat
from tasks.domain.shards.seal import Quarantined
from tasks.worker.base import Batch, Vectors, Work
from tasks.worker.batching import padded_size
from tasks.worker.pipeline.coordinator_client import heartbeats
from tasks.worker.pipeline.fault_isolation import FaultIsolatingRunner
from tasks.worker.pipeline.piece_reader import PreparedPiece

Announce = Callable[[Heartbeat], None]
Allows = Callable[[float], bool]  # whether this rank may work for so many more seconds


@dataclass(slots=True, kw_only=True)
class EncodedPiece:
    """The vectors of a piece. `kept` marks its rows that have a vector; `vectors` has a row for each of these."""

    ready: PreparedPiece
    kept: npt.NDArray[np.bool_]
    vectors: Vectors
    quarantined: tuple[Quarantined, ...]
    encode_seconds: float
    padded: int  # tokens that the model processed, padding included
    halved: int = 0  # batches that did not fit into memory


@dataclass(slots=True)
class _Results:
    """A vector for each row; rows without one are in `refused`."""

    vectors: Vectors
    kept: npt.NDArray[np.bool_]
    refused: dict[int, str] = field(default_factory=dict)
    done: int = 0
    tokens: int = 0
    padded: int = 0


RATE_KNOWN_FROM = 0.1  # share of a piece after which its rate predicts the rest: the first batches also warm up the model


class PieceEncoder:
    """Encodes pieces one after another; remembers between pieces which batch sizes fit into memory."""

    def __init__(self, runner: FaultIsolatingRunner[Any], dim: int, announce: Announce, allows: Allows, *, sparse: bool = False) -> None:
        self._runner, self._dim, self._announce, self._allows, self._sparse = runner, dim, announce, allows, sparse

    def encode(self, ready: PreparedPiece) -> EncodedPiece | None:
        """Encode a piece; return None if this rank must exit before the rest would be done.

        Raises:
            Fatal: the device or a helper process is broken.
            Transient: an image's store does not answer.
        """
        began, halved = time.perf_counter(), self._runner.halved
        count = ready.rows.num_rows
        results = _Results(no_vectors(count, self._dim, sparse=self._sparse), np.zeros(count, dtype=bool))
        for batch, left in self._batches(ready, results):
            if not self._allows(left * (time.perf_counter() - began)):
                return None
            self._fill(results, batch, ready)
        whole = bool(results.kept.all())
        return EncodedPiece(
            ready=ready,
            kept=results.kept,
            vectors=results.vectors if whole else results.vectors[results.kept],
            quarantined=(*ready.barred, *_quarantined_rows(ready, results.refused)),
            encode_seconds=time.perf_counter() - began,
            padded=results.padded,
            halved=self._runner.halved - halved,
        )

    def _batches(self, ready: PreparedPiece, results: _Results) -> Iterator[tuple[Batch, float]]:
        """Yield batches, each announced before it is loaded, with the remaining work as a multiple of the elapsed time."""
        suspects, others = _split(ready)
        done = 0
        planned = ready.work.plan(others)
        total = max(1, sum(padded_size(batch, ready.work.sizes) for batch in [*suspects, *planned]))
        for plan, alone in ((suspects, True), (planned, False)):
            ahead = 0 if alone else ready.work.ahead
            loading = ready.work.load(plan, alone=alone)
            for number, batch_rows in enumerate(plan):
                in_hand = [row for batch in plan[number : number + 1 + ahead] for row in batch]
                self._announce(heartbeat := self._heartbeat(ready, in_hand, results))
                with self._heartbeats_while_loading(heartbeat, ready.work):
                    batch = next(loading)
                yield batch, (total - done) / done if done > total * RATE_KNOWN_FROM else 0.0
                done += padded_size(batch_rows, ready.work.sizes)
                results.padded += ready.work.computed_tokens(batch_rows)
                results.done += len(batch_rows)
                results.tokens += sum(ready.work.sizes[row] for row in batch_rows) if ready.work.stats.tokens else 0

    def _heartbeats_while_loading(self, heartbeat: Heartbeat, work: Work) -> AbstractContextManager[None]:
        """Repeat the heartbeat while rows arrive, however slowly: a batch may hold many images from a slow store."""
        seen = work.loaded
        if seen is None:
            return nullcontext()

        def beat() -> None:
            nonlocal seen
            before, seen = seen, work.loaded
            if seen != before:
                self._announce(heartbeat)

        return heartbeats(beat)

    def _heartbeat(self, ready: PreparedPiece, positions: list[int], results: _Results) -> Heartbeat:
        rows = ready.rows.column("row").take(positions).to_pylist()
        return Heartbeat(key=ready.piece.key, rows=tuple(rows), done=results.done, tokens=results.tokens)

    def _fill(self, results: _Results, batch: Batch, ready: PreparedPiece) -> None:
        results.refused.update(batch.refused)
        if not batch.contents:
            return
        outcome = self._runner.run(batch.contents, [ready.work.sizes[row] for row in batch.rows])
        results.refused.update((batch.rows[position], reason) for position, reason in outcome.refused)
        if outcome.kept:
            rows = [batch.rows[position] for position in outcome.kept]
            results.vectors[rows] = np.concatenate(outcome.vectors)
            results.kept[rows] = True


def _split(ready: PreparedPiece) -> tuple[list[list[int]], list[int]]:
    """Suspects, each a batch of its own, and the other positions."""
    suspected = set(ready.piece.suspects)
    if not suspected:
        return [], list(range(ready.rows.num_rows))
    rows = ready.rows.column("row").to_pylist()
    alone = [[at] for at, row in enumerate(rows) if row in suspected]
    return alone, [at for at, row in enumerate(rows) if row not in suspected]


def _quarantined_rows(ready: PreparedPiece, refused: dict[int, str]) -> Iterator[Quarantined]:
    for position in sorted(refused):
        row = ready.rows.slice(position, 1)
        yield Quarantined(row=row.column("row")[0].as_py(), id=row.column("id")[0].as_py(), reason=refused[position])
