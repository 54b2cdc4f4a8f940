"""Encoder for queries, in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

from tasks.domain.encoder_identity import EIGHT_BITS, EncoderFacts, Precision
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import Encoder
from tasks.domain.served_identity import other_server

if TYPE_CHECKING:  # importing this module must not load torch
    from tasks.worker.base import LoadedEncoder, Vectors

T = TypeVar("T")


class QueryEncoder:
    """A model that embeds queries as a run's ranks embed rows. Loaded with the first query; uses float32 after the first failure.

    Rows may be images, whose text tower may run only in float32. If rows are embedded in 8 bits, queries are embedded in float32: they
    are few, and their vectors are then more exact. `facts`: of the encoder that embedded the rows.
    Thread-safe by a lock, since models and tokenizers do not support concurrent calls.
    """

    def __init__(self, encoder: Encoder, *, model_path: str, precision: Precision, facts: EncoderFacts | None = None) -> None:
        self._encoder, self._path, self._facts = encoder, model_path, facts
        self._precision: Precision = "float32" if precision in EIGHT_BITS else precision
        self._loaded: LoadedEncoder | None = None
        self._turn = threading.Lock()

    def embed_queries(self, texts: list[str]) -> Vectors:
        """See `LoadedEncoder`."""
        return self._try(lambda loaded: loaded.embed_queries(texts))

    def embed_pictures(self, places: list[str]) -> Vectors:
        """See `LoadedEncoder`."""
        return self._try(lambda loaded: loaded.embed_pictures(places))

    def embed_rows(self, texts: list[str]) -> Iterator[tuple[list[int], Vectors]]:
        """Embeds texts as rows; yields for each batch the positions of its texts and their vectors, float32 of shape (positions, dim)."""
        with self._turn:
            loaded = self._load()
        work = loaded.prepare(pa.table({"text": pa.array(texts, pa.string())}))
        for batch in work.load(work.plan(range(len(texts))), alone=True):
            with self._turn:
                vectors = loaded.encode(batch.contents)
            yield batch.rows, vectors

    @property
    def loaded(self) -> bool:
        """Whether the model is loaded."""
        return self._loaded is not None

    def load(self) -> None:
        """Load the model now instead of with the first query. Raises the same errors."""
        self._try(lambda _loaded: None)

    def _load(self) -> LoadedEncoder:
        from tasks.worker.encoders.registry import open_encoder  # noqa: PLC0415

        if self._loaded is None:
            loaded = open_encoder(self._encoder, model_path=self._path, precision=self._precision)
            self._check_server(loaded)
            self._loaded = loaded
        return self._loaded

    def _check_server(self, loaded: LoadedEncoder) -> None:
        pinned = self._facts.server if self._facts else None
        if pinned and (other := other_server(loaded.facts().server, pinned)):
            loaded.close()
            raise BadInput(f"the encoder's server has another model than these rows were embedded with: {other}: serve that model again")

    def close(self) -> None:
        """See `LoadedEncoder`."""
        if self._loaded is not None:
            self._loaded.close()

    def _try(self, embed: Callable[[LoadedEncoder], T]) -> T:
        with self._turn:
            try:
                return embed(self._load())
            except Exception as error:
                if self._precision == "float32" or (isinstance(error, BadInput) and self._loaded is not None):
                    raise
                self.close()
                self._loaded, self._precision = None, "float32"
                return embed(self._load())
