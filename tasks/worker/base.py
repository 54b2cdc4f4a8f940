"""The interface between a rank and a model: one thread prepares rows, another computes vectors.

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

Vectors = npt.NDArray[Any]  # float32 of shape (rows, dim); packed rows for a sparse encoder (`tasks.adapters.rows.vectors.sparse_vectors`)


@dataclass(slots=True, kw_only=True)
class Batch:
    """Rows ready for the device."""

    rows: list[int]  # positions in the prepared table
    contents: list[Any]  # one for each of `rows`, in the encoder's own format
    refused: list[tuple[int, str]] = field(default_factory=list)  # positions that cannot be embedded, and why


class Work(Protocol):
    """A table of rows that the encoder has prepared."""

    @property
    def sizes(self) -> Sequence[int]:
        """The weight of each row: its number of tokens, or 1."""

    @property
    def stats(self) -> EncodeStats:
        """Preparation time and token statistics."""

    @property
    def ahead(self) -> int:
        """Number of batches that helper processes load beyond the yielded one."""

    @property
    def loaded(self) -> int | None:
        """Rows that `load` has finished, in any batch: it makes progress while this grows. None: `load` does not wait for I/O."""

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        """Partition positions into batches."""

    def computed_tokens(self, batch: Sequence[int]) -> int:
        """Tokens that the model processes for a batch, padding included; 0 if its inputs are not tokens."""

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
        """Yield the batches in order. `alone`: use no helper process, so that a crash is attributable to this batch."""


class LoadedEncoder(Protocol):
    """A model in memory. `prepare` may run in another thread than the other methods."""

    def facts(self) -> EncoderFacts:
        """Dimension, longest input, precision, device."""

    def prepare(self, rows: pa.Table) -> Work:
        """Tokenise and measure rows that have the schema of `tasks.adapters.rows.row_schema`."""

    def encode(self, contents: Sequence[Any]) -> Vectors:
        """Return the vectors of a batch's contents: float32 of shape (rows, dim).

        Raises:
            OutOfMemory: the batch does not fit into memory.
            Fatal: the device is broken.
        """

    def embed_queries(self, texts: list[str]) -> Vectors:
        """Embed text queries: float32 of shape (texts, dim), comparable with the vectors of `encode`."""

    def embed_pictures(self, places: list[str]) -> Vectors:
        """Embed query images at local paths or URIs; returns the same as `embed_queries`.

        Raises:
            BadInput: an image is missing, cannot be decoded or is too large, or this encoder embeds text only.
        """

    def budgets(self) -> tuple[int, ...]:
        """Batch sizes in tokens to measure on this device, the default first; empty if the job sets the batch size."""

    def set_batch_tokens(self, tokens: int) -> None:
        """Set the number of tokens per batch for later plans."""

    def start(self) -> None:
        """Start helper processes, if any. Call this before the process starts threads: forking a threaded process is unsafe."""

    def close(self) -> None:
        """Stop helper processes."""


def unit_length(vectors: npt.NDArray[Any]) -> Vectors:
    """Scale vectors to length 1 in float32, whatever their precision; zero vectors stay zero."""
    exact = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    return np.asarray(exact / np.maximum(lengths, 1e-12), dtype=np.float32)
