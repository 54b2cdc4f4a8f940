"""Texts for open_clip's text tower, which reads a fixed number of tokens: truncated, and the lost tokens counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch

from tasks.domain.errors import BadInput
from tasks.domain.shards.seal import EncodeStats
from tasks.worker.base import Batch
from tasks.worker.encoding_errors import first_line

CHARACTERS = 64  # for each token that the model reads: no token is as long, so that what lies beyond cannot change a vector
COUNTED = 64  # times the tokens that the model reads: tokens beyond are not counted
COUNTED_AT_ONCE = 32
FORGET = 10_000_000  # characters: open_clip's own tokenizer keeps every word that it has met


@dataclass(slots=True, kw_only=True)
class CaptionWork:
    """Texts as tokens. A short one costs the model what a long one does, so each weighs 1."""

    tokens: torch.Tensor
    sizes: list[int]
    stats: EncodeStats
    most_rows: int
    ahead: int = 0
    loaded: int | None = None

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        return [chosen[at : at + self.most_rows] for at in range(0, len(chosen), self.most_rows)]

    def computed_tokens(self, batch: Sequence[int]) -> int:  # noqa: ARG002 - a caption's own tokens are not counted, so neither is its padding
        return 0

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:  # noqa: ARG002 - nothing runs beside
        for batch in batches:
            yield Batch(rows=batch, contents=[self.tokens[row] for row in batch])


class Captions:
    """The tokenizer of an open_clip model, loaded at its first use."""

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture
        self._tokenizer: Any = None
        self._met = 0

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """What the model reads of each text: int64 of shape (texts, context).

        Raises:
            BadInput: the model's tokenizer cannot be loaded.
        """
        tokenizer = self._loaded(texts)
        return torch.as_tensor(tokenizer(_bounded(texts, tokenizer)))

    def prepare(self, texts: list[str], most_rows: int) -> CaptionWork:
        """Rows made ready for the model."""
        began = time.perf_counter()
        tokens = self.tokens(texts)
        lost = [count for count in self._lost(texts, tokens) if count > 0]
        stats = EncodeStats(truncated=len(lost), tokens_cut=sum(lost), tokenize_seconds=time.perf_counter() - began, backend="torch")
        return CaptionWork(tokens=tokens, sizes=[1] * len(texts), stats=stats, most_rows=most_rows)

    def _loaded(self, texts: list[str]) -> Any:
        self._met += sum(map(len, texts))
        if self._tokenizer is None or self._met > FORGET:
            self._tokenizer, self._met = _load(self._architecture), 0
        return self._tokenizer

    def _lost(self, texts: list[str], tokens: torch.Tensor) -> Iterator[int]:
        """Tokens that the model will not see, of each text that fills its place; a text that leaves room loses none."""
        tokenizer, context = self._tokenizer, tokens.shape[1]
        padding = tokenizer([""])[0, -2]
        full = (tokens[:, -2] != padding).nonzero().flatten().tolist()
        for at in range(0, len(full), COUNTED_AT_ONCE):
            some = _bounded([texts[row] for row in full[at : at + COUNTED_AT_ONCE]], tokenizer)
            whole = tokenizer(some, context_length=context * COUNTED)
            yield from ((whole != padding).sum(dim=1) - context).tolist()


def _bounded(texts: list[str], tokenizer: Any) -> list[str]:
    """No more of a text than can count: open_clip's tokenizer takes minutes over a word of megabytes."""
    most = CHARACTERS * int(tokenizer.context_length)
    return [text if len(text) <= most else " ".join(text.split())[:most] for text in texts]


def _load(architecture: str) -> Any:
    try:
        return open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise BadInput(f"encoder.architecture '{architecture}': its tokenizer cannot be loaded: {first_line(error)}") from error
