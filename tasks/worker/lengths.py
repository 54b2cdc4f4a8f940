"""How many tokens a text has for a model, nothing cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tokenizers
from sentence_transformers import SentenceTransformer

TEXTS_AT_ONCE = 256  # what the tokenizer returns is many times larger than the text

Measure = Callable[[list[str]], list[int]]


def measure_of(model: SentenceTransformer) -> Measure:
    """A function from texts to their lengths, special tokens counted; safe beside `model.encode` in another thread.

    It has a tokenizer of its own: a tokenizer's cutting and padding are settings of the object, and
    encoding sets them while this counts.
    """
    tokenizer: Any = getattr(model, "tokenizer", None)
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if isinstance(fast, tokenizers.Tokenizer):
        return _by_fast(tokenizers.Tokenizer.from_str(fast.to_str()))
    if hasattr(tokenizer, "encode"):
        return lambda texts: [len(tokenizer.encode(text)) for text in texts]
    if hasattr(tokenizer, "tokenize"):
        return lambda texts: [len(tokenizer.tokenize(text)) for text in texts]
    return lambda texts: [1 + len(text) // 4 for text in texts]


def _by_fast(tokenizer: tokenizers.Tokenizer) -> Measure:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def measure(texts: list[str]) -> list[int]:
        starts = range(0, len(texts), TEXTS_AT_ONCE)
        return [len(found) for at in starts for found in tokenizer.encode_batch_fast(texts[at : at + TEXTS_AT_ONCE])]

    return measure
