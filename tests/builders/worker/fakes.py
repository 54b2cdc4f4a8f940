"""An encoder without a model: the in-memory twin of those that load one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.domain.encoder_identity import EncoderFacts, Precision
from tasks.domain.shards.seal import EncodeStats
from tasks.worker.base import Batch, Vectors
from tasks.worker.batching import padded_size


@dataclass
class FakeWork:
    texts: list[str]
    sizes: list[int]
    stats: EncodeStats = field(default_factory=EncodeStats)
    ahead: int = 0
    loaded: int | None = None

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        return [chosen[at : at + 4] for at in range(0, len(chosen), 4)]

    def computed_tokens(self, batch: Sequence[int]) -> int:
        return padded_size(batch, self.sizes)

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
        for batch in batches:
            good = [row for row in batch if self.texts[row] != "unreadable"]
            bad = [(row, "undecodable image: no picture") for row in batch if row not in good]
            yield Batch(rows=good, contents=[self.texts[row] for row in good], refused=bad)


@dataclass
class FakeEncoder:
    """A text's vector is (its length, 1), moved by `error` where the precision is not float32."""

    precision: Precision = "float32"
    error: float = 0.0
    closed: bool = False
    budget: int = 0

    def facts(self) -> EncoderFacts:
        return EncoderFacts(dim=2, max_seq_length=None, precision=self.precision, device="cpu")

    def prepare(self, rows: pa.Table) -> FakeWork:
        texts = rows.column("text").to_pylist()
        return FakeWork(texts, [len(text) for text in texts])

    def encode(self, contents: Sequence[Any]) -> Vectors:
        if "boom" in contents:
            raise ValueError("boom")
        return np.array([[len(text), 1 + self.error] for text in contents], dtype=np.float32)

    def embed_queries(self, texts: list[str]) -> Vectors:
        return self.encode(texts)

    def embed_pictures(self, places: list[str]) -> Vectors:
        return self.encode(places)

    def budgets(self) -> tuple[int, ...]:
        return ()

    def set_batch_tokens(self, tokens: int) -> None:
        self.budget = tokens

    def start(self) -> None: ...

    def close(self) -> None:
        self.closed = True
