"""Tokenises texts for open_clip's text tower, which reads a fixed number of tokens: truncates them and counts the lost tokens."""

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

CHARACTERS = 64  # per token that the model reads; no token is as long, so text beyond this cannot change a vector
COUNTED = 64  # lost tokens are counted up to this multiple of the tokens that the model reads
COUNTED_AT_ONCE = 32
RELOAD_CHARACTERS = 10_000_000  # reload the tokenizer after so many: open_clip's caches every word that it has seen


@dataclass(slots=True, kw_only=True)
class CaptionWork:
    """Tokenised texts. All texts cost the model the same, so each has size 1."""

    tokens: torch.Tensor
    sizes: list[int]
    stats: EncodeStats
    most_rows: int
    ahead: int = 0
    loaded: int | None = None

    def plan(self, rows: Iterable[int]) -> list[list[int]]:
        chosen = list(rows)
        return [chosen[at : at + self.most_rows] for at in range(0, len(chosen), self.most_rows)]

    def computed_tokens(self, batch: Sequence[int]) -> int:  # noqa: ARG002 - neither tokens nor padding are counted
        return 0

    def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:  # noqa: ARG002 - there are no helper processes
        for batch in batches:
            yield Batch(rows=batch, contents=[self.tokens[row] for row in batch])


class Captions:
    """The tokenizer of an open_clip model, loaded on first use."""

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture
        self._tokenizer: Any = None
        self._met = 0

    def tokens(self, texts: list[str]) -> torch.Tensor:
        """Tokenise texts, truncated to the model's context: int64 of shape (texts, context).

        Raises:
            BadInput: the model's tokenizer cannot be loaded.
        """
        tokenizer = self._loaded(texts)
        return torch.as_tensor(tokenizer(_bounded(texts, tokenizer)))

    def prepare(self, texts: list[str], most_rows: int) -> CaptionWork:
        """Tokenise rows and count lost tokens."""
        began = time.perf_counter()
        tokens = self.tokens(texts)
        lost = [count for count in self._lost(texts, tokens) if count > 0]
        stats = EncodeStats(truncated=len(lost), tokens_cut=sum(lost), tokenize_seconds=time.perf_counter() - began, backend="torch")
        return CaptionWork(tokens=tokens, sizes=[1] * len(texts), stats=stats, most_rows=most_rows)

    def _loaded(self, texts: list[str]) -> Any:
        self._met += sum(map(len, texts))
        if self._tokenizer is None or self._met > RELOAD_CHARACTERS:
            self._tokenizer, self._met = _load(self._architecture), 0
        return self._tokenizer

    def _lost(self, texts: list[str], tokens: torch.Tensor) -> Iterator[int]:
        """Yield the number of lost tokens of each text that fills the context; shorter texts lose none."""
        tokenizer, context = self._tokenizer, tokens.shape[1]
        padding = tokenizer([""])[0, -2]
        full = (tokens[:, -2] != padding).nonzero().flatten().tolist()
        for at in range(0, len(full), COUNTED_AT_ONCE):
            some = _bounded([texts[row] for row in full[at : at + COUNTED_AT_ONCE]], tokenizer)
            whole = tokenizer(some, context_length=context * COUNTED)
            yield from ((whole != padding).sum(dim=1) - context).tolist()


def _bounded(texts: list[str], tokenizer: Any) -> list[str]:
    """Cut off what the model cannot read: open_clip's tokenizer takes minutes for a word of megabytes."""
    most = CHARACTERS * int(tokenizer.context_length)
    return [text if len(text) <= most else " ".join(text.split())[:most] for text in texts]


def _load(architecture: str) -> Any:
    try:
        return open_clip.get_tokenizer(architecture)
    except Exception as error:
        raise BadInput(f"encoder.architecture '{architecture}': its tokenizer cannot be loaded: {first_line(error)}") from error
