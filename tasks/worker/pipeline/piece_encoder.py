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
from tasks.worker.pipeline.piece_reader import Ready

Announce = Callable[[Heartbeat], None]
Allows = Callable[[float], bool]  # whether this rank may work for so many more seconds


@dataclass(slots=True, kw_only=True)
class Encoded:
    """The vectors of a piece. `kept` marks its rows that have a vector; `vectors` has a row for each of these."""

    ready: Ready
    kept: npt.NDArray[np.bool_]
    vectors: Vectors
    quarantined: tuple[Quarantined, ...]
    encode_seconds: float
    padded: int  # tokens that the model processed, padding included
    halved: int = 0  # batches that did not fit into memory


@dataclass(slots=True)
class _Vectors:
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

    def encode(self, ready: Ready) -> Encoded | None:
        """Encode a piece; return None if this rank must exit before the rest would be done.

        Raises:
            Fatal: the device or a helper process is broken.
            Transient: an image's store does not answer.
        """
        began, halved = time.perf_counter(), self._runner.halved
        count = ready.rows.num_rows
        sheet = _Vectors(no_vectors(count, self._dim, sparse=self._sparse), np.zeros(count, dtype=bool))
        for batch, left in self._batches(ready, sheet):
            if not self._allows(left * (time.perf_counter() - began)):
                return None
            self._fill(sheet, batch, ready)
        whole = bool(sheet.kept.all())
        return Encoded(
            ready=ready,
            kept=sheet.kept,
            vectors=sheet.vectors if whole else sheet.vectors[sheet.kept],
            quarantined=(*ready.barred, *_set_aside(ready, sheet.refused)),
            encode_seconds=time.perf_counter() - began,
            padded=sheet.padded,
            halved=self._runner.halved - halved,
        )

    def _batches(self, ready: Ready, sheet: _Vectors) -> Iterator[tuple[Batch, float]]:
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
                self._announce(at := self._at(ready, in_hand, sheet))
                with self._heartbeats_while_loading(at, ready.work):
                    batch = next(loading)
                yield batch, (total - done) / done if done > total * RATE_KNOWN_FROM else 0.0
                done += padded_size(batch_rows, ready.work.sizes)
                sheet.padded += ready.work.computed_tokens(batch_rows)
                sheet.done += len(batch_rows)
                sheet.tokens += sum(ready.work.sizes[row] for row in batch_rows) if ready.work.stats.tokens else 0

    def _heartbeats_while_loading(self, at: Heartbeat, work: Work) -> AbstractContextManager[None]:
        """Repeat the heartbeat while rows arrive, however slowly: a batch may hold many images from a slow store."""
        seen = work.loaded
        if seen is None:
            return nullcontext()

        def beat() -> None:
            nonlocal seen
            before, seen = seen, work.loaded
            if seen != before:
                self._announce(at)

        return heartbeats(beat)

    def _at(self, ready: Ready, positions: list[int], sheet: _Vectors) -> Heartbeat:
        rows = ready.rows.column("row").take(positions).to_pylist()
        return Heartbeat(key=ready.piece.key, rows=tuple(rows), done=sheet.done, tokens=sheet.tokens)

    def _fill(self, sheet: _Vectors, batch: Batch, ready: Ready) -> None:
        sheet.refused.update(batch.refused)
        if not batch.contents:
            return
        outcome = self._runner.run(batch.contents, [ready.work.sizes[row] for row in batch.rows])
        sheet.refused.update((batch.rows[position], reason) for position, reason in outcome.refused)
        if outcome.kept:
            rows = [batch.rows[position] for position in outcome.kept]
            sheet.vectors[rows] = np.concatenate(outcome.vectors)
            sheet.kept[rows] = True


def _split(ready: Ready) -> tuple[list[list[int]], list[int]]:
    """Suspects, each a batch of its own, and the other positions."""
    suspected = set(ready.piece.suspects)
    if not suspected:
        return [], list(range(ready.rows.num_rows))
    rows = ready.rows.column("row").to_pylist()
    alone = [[at] for at, row in enumerate(rows) if row in suspected]
    return alone, [at for at, row in enumerate(rows) if row not in suspected]


def _set_aside(ready: Ready, refused: dict[int, str]) -> Iterator[Quarantined]:
    for position in sorted(refused):
        row = ready.rows.slice(position, 1)
        yield Quarantined(row=row.column("row")[0].as_py(), id=row.column("id")[0].as_py(), reason=refused[position])
