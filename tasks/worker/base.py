"""What a rank asks of a model: rows made ready in one thread, vectors made in another.

To add an encoder: its settings, a class with these methods, and a line in `tasks.domain.job.encoder.ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.domain.encoder_identity import EncoderFacts
from tasks.domain.shards.seal import EncodeStats

Vectors = npt.NDArray[Any]  # float32 of shape (rows, dim); of a sparse encoder packed rows (`tasks.adapters.rows.vectors.sparse_vectors`)


@dataclass(slots=True, kw_only=True)
class Batch:
    """Rows ready for the device."""

    rows: list[int]  # positions in the table that was prepared
    contents: list[Any]  # one for each of `rows`, in the encoder's own form
    refused: list[tuple[int, str]] = field(default_factory=list)  # positions that cannot be embedded, and why


class Work(Protocol):
    """A table of rows made ready by the encoder."""

    @property
    def sizes(self) -> Sequence[int]:
        """What each row weighs: its tokens, or 1."""

    @property
    def stats(self) -> EncodeStats:
        """The time of preparing, and its findings."""

    @property
    def ahead(self) -> int:
        """Batches that other processes work on beside the one that is yielded."""

    @property
    def loaded(self) -> int | None:
        """Rows that `load` is through with, of whichever batch: it goes on while they grow. None: it waits for nothing."""

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        """Cut positions into batches, each position once."""

    def given(self, batch: Sequence[int]) -> int:
        """Tokens that the model computes on for a batch, padding counted; 0 where it is given no tokens."""

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
        """The batches, in order. `alone`: use no helper process, so that a crash here is this batch's."""


class LoadedEncoder(Protocol):
    """A model in memory. `prepare` may run in another thread than the rest."""

    def facts(self) -> EncoderFacts:
        """Dimension, longest input, precision, device."""

    def prepare(self, rows: pa.Table) -> Work:
        """Look at rows in the form of `tasks.adapters.rows.row_schema`: measure, tokenise."""

    def encode(self, contents: Sequence[Any]) -> Vectors:
        """Vectors of a batch's contents: float32 of shape (rows, dim).

        Raises:
            OutOfMemory: too many at once.
            Fatal: the device is broken.
        """

    def embed_queries(self, texts: list[str]) -> Vectors:
        """Vectors of searches in words: float32 of shape (texts, dim), comparable with those of `encode`."""

    def embed_pictures(self, places: list[str]) -> Vectors:
        """Vectors of searches with pictures, which are at local paths or URIs: as `embed_queries`.

        Raises:
            BadInput: there is no picture, it cannot be decoded, or it is too large; or this encoder knows words alone.
        """

    def budgets(self) -> tuple[int, ...]:
        """Tokens of a batch that are worth measuring here, the usual ones first; empty where the job says how many."""

    def take_budget(self, tokens: int) -> None:
        """Plan batches of so many tokens from now on."""

    def start(self) -> None:
        """Start helper processes, if it has any: before this process has threads, which a fork would tear."""

    def close(self) -> None:
        """End helper processes."""


def unit_length(vectors: npt.NDArray[Any]) -> Vectors:
    """Vectors scaled to length 1 in float32, whatever they were computed in; a zero vector stays one."""
    exact = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.maximum(lengths, 1e-12), dtype=np.float32)
