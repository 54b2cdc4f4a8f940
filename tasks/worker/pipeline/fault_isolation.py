"""Encoding that survives bad rows: halves a batch that is out of memory, and finds a bad row by bisection to refuse it alone.

Independent of models: takes a callable that turns a batch into vectors and may fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.adapters.rows.vectors.sparse_vectors import is_sparse, values_finite, weights_of
from tasks.domain.encoding.length_bins import upper_edge
from tasks.worker.base import Vectors
from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line

Content = TypeVar("Content")
FIRST_PATIENCE = 8  # batches that must fit before a larger one is tried
MOST_PATIENCE = 1024
ZERO = "zero: the model returned a zero vector, as it does for unknown words"


@dataclass(slots=True)
class RowsOutcome:
    """The result of a batch: each position is once in `kept` or in `refused`."""

    kept: list[int] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)  # concatenated, they have a row for each of `kept`
    refused: list[tuple[int, str]] = field(default_factory=list)

    def keep(self, positions: Sequence[int], vectors: Vectors) -> None:
        if len(positions):
            self.kept.extend(positions)
            self.vectors.append(vectors)


@dataclass(slots=True)
class _Cap:
    """The maximum rows per batch of a length that once did not fit."""

    rows: int
    patience: int = FIRST_PATIENCE
    fitted: int = 0

    def did_not_fit(self, rows: int) -> None:
        self.rows, self.fitted = max(1, rows // 2), 0
        self.patience = min(self.patience * 2, MOST_PATIENCE)

    def fits(self) -> None:
        """Grow by a quarter after `patience` full batches; `patience` doubles each time a batch does not fit."""
        self.fitted += 1
        if self.fitted >= self.patience:
            self.rows, self.fitted = self.rows + max(1, self.rows // 4), 0


class FaultIsolatingRunner(Generic[Content]):
    """Runs batches through `encode`, which returns float32 of shape (rows, dim) or raises.

    `OutOfMemory` halves the batch; the size that fits is remembered for that length and longer ones.
    `Fatal` and BaseExceptions propagate. Any other exception is attributed to a row, found by bisection.
    """

    def __init__(self, encode: Callable[[Sequence[Content]], Vectors], *, unit: str = "tokens") -> None:
        self._encode = encode
        self._unit = unit
        self._caps: dict[int, _Cap] = {}
        self.halved = 0  # number of batches so far that did not fit into memory

    def run(self, batch: Sequence[Content], sizes: Sequence[int]) -> RowsOutcome:
        """Encode a batch, in as many calls as it takes.

        Args:
            batch: the rows to encode.
            sizes: length of each row.
        """
        outcome = RowsOutcome()
        waiting = list(range(len(batch)))
        while waiting:
            rows = self._allowed(max(sizes[i] for i in waiting))
            chunk, waiting = waiting[:rows], waiting[rows:]
            self._attempt(chunk, batch, sizes, outcome)
        return outcome

    def _allowed(self, size: int) -> int:
        edge = upper_edge(size)
        return min((cap.rows for known, cap in self._caps.items() if known <= edge), default=2**31)

    def _attempt(self, chunk: list[int], batch: Sequence[Content], sizes: Sequence[int], outcome: RowsOutcome) -> None:
        edge = upper_edge(max(sizes[i] for i in chunk))
        try:
            vectors = self._encode([batch[i] for i in chunk])
        except Fatal:
            raise
        except OutOfMemory:
            self.halved += 1
            self._caps.setdefault(edge, _Cap(len(chunk))).did_not_fit(len(chunk))
            reason = f"out of memory: {sizes[chunk[0]]} {self._unit}"
        except Exception as error:  # noqa: BLE001 - the model may raise anything, and it is recorded as the row's reason
            reason = f"encoder: {first_line(error)}"
        else:
            self._note_fit(edge, len(chunk))
            self._keep_finite(chunk, vectors, batch, sizes, outcome)
            return
        self._split(chunk, reason, batch, sizes, outcome)

    def _note_fit(self, edge: int, rows: int) -> None:
        cap = self._caps.get(edge)
        if cap is not None and rows >= cap.rows:
            cap.fits()

    def _split(self, chunk: list[int], reason: str, batch: Sequence[Content], sizes: Sequence[int], outcome: RowsOutcome) -> None:
        if len(chunk) == 1:
            outcome.refused.append((chunk[0], reason))
            return
        middle = len(chunk) // 2
        self._attempt(chunk[:middle], batch, sizes, outcome)
        self._attempt(chunk[middle:], batch, sizes, outcome)

    def _keep_finite(
        self, chunk: list[int], vectors: Vectors, batch: Sequence[Content], sizes: Sequence[int], outcome: RowsOutcome
    ) -> None:
        finite, some = (values_finite(vectors), vectors.astype(bool)) if is_sparse(vectors) else _finite_and_some(vectors)
        kept = finite & some
        outcome.keep([i for i, good in zip(chunk, kept, strict=True) if good], vectors[kept])
        outcome.refused += [
            (i, ZERO) for i, zero in zip(chunk, finite & ~kept, strict=True) if zero
        ]  # a zero vector has no direction, so cosine similarity is undefined
        for position, (index, good) in enumerate(zip(chunk, finite, strict=True)):
            if good:
                continue
            if len(chunk) == 1:
                numbers = weights_of(vectors[position])["value"] if is_sparse(vectors) else vectors[position]
                kind = "NaN" if np.isnan(numbers).any() else "Inf"
                outcome.refused.append((index, f"not finite: the model gave {kind}"))
            else:  # a neighbour's NaN may have spread over the batch: a row is bad only if it is not finite when encoded alone
                self._attempt([index], batch, sizes, outcome)


def _finite_and_some(vectors: Vectors) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return for each row whether it is finite, and whether any component is not zero."""
    return np.asarray(np.isfinite(vectors).all(axis=1)), np.asarray(vectors.any(axis=1))
