"""Tokenises each text once: tokens are counted before batches are planned, and the same tokens go to the model.

sentence-transformers tokenises the inputs of `encode` batch by batch while the model waits. Here a text carries its tokens, and the
library gets the features that it would have made from the text. When a model is loaded, both are compared on texts of several
lengths. If they differ in anything (texts joined into one row, chat templates, the model's own padding), or if the tokenizer cannot
be used separately, the library tokenises as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from sentence_transformers import SentenceTransformer

TEXTS_AT_ONCE = 256  # the tokenizer's output is many times larger than the text
LONGEST_TRIED = 100_000  # tokens; transformers expresses "no limit" as a number of 30 digits
TOKENIZER_PROBES = ["a", "", " some words, of which there are more \n", "x " * 40, "Ünïcode 漢字 \t 12.5%"]

Ids = npt.NDArray[np.int32]
Features = dict[str, Any]


class TokenizedText(str):
    """A text that may carry its tokens, including prompt and special tokens, truncated to the model's limit."""

    __slots__ = ("ids",)
    ids: Ids | None


class Tokens:
    """A copy of a model's tokenizer: truncation and padding are its state, and the library changes its own while this one counts."""

    def __init__(self, model: SentenceTransformer, first: Any, *, prompt: str, task: str | None, limit: int | None) -> None:
        self._prompt, self._limit = prompt, limit
        self._more: Features = {"task": task} if task else {}
        self._library: Callable[..., Features] = model.preprocess
        self._tokenizer: Any = getattr(first, "tokenizer", None)
        fast = getattr(self._tokenizer, "backend_tokenizer", self._tokenizer)
        self._own: tokenizers.Tokenizer | None = None
        if isinstance(fast, tokenizers.Tokenizer):
            self._own = tokenizers.Tokenizer.from_str(fast.to_str())  # slow for a large vocabulary
            self._own.no_truncation()
            self._own.no_padding()
        self._form: Mapping[str, Any] | None = None  # an example of the library's features; None: use the library
        with suppress(Exception):  # models' own code may raise anything
            self._form = self._verified_form()
        if self._form is not None:
            this_model: Any = model  # the instance only, not its class
            this_model.preprocess = self._preprocess

    def read(self, texts: list[str]) -> tuple[list[TokenizedText], list[int], list[int]]:
        """Return the texts with tokens, how many tokens the model reads of each, and how many each has. May run beside `model.encode`."""
        tokenized: list[TokenizedText] = []
        whole: list[int] = []
        for at in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[at : at + TEXTS_AT_ONCE]
            ids, counted = self._ids([self._prompt + text for text in some])
            whole += counted
            for text, its_ids in zip(some, ids, strict=True):
                tokenized.append(TokenizedText(text))
                tokenized[-1].ids = its_ids if self._form is not None else None
        return tokenized, [min(size, self._limit or size) for size in whole], whole

    def _ids(self, texts: list[str]) -> tuple[Sequence[Ids | None], list[int]]:
        if self._own is None:
            return [None] * len(texts), self._count(texts)
        ids = [np.asarray(encoded.ids, dtype=np.int32) for encoded in self._own.encode_batch_fast(texts)]
        counted = [len(tokens) for tokens in ids]
        limit = self._limit or max(counted, default=0)
        long = [at for at, size in enumerate(counted) if size > limit]
        if long:
            self._own.enable_truncation(limit, direction=getattr(self._tokenizer, "truncation_side", "right"))
            for at, encoded in zip(long, self._own.encode_batch_fast([texts[at] for at in long]), strict=True):
                ids[at] = np.asarray(encoded.ids, dtype=np.int32)
            self._own.no_truncation()
        return ids, counted

    def _count(self, texts: list[str]) -> list[int]:
        """Count tokens with another kind of tokenizer; without one, estimate from the usual length of a token."""
        for name in ("encode", "tokenize"):
            if hasattr(self._tokenizer, name):
                return [len(getattr(self._tokenizer, name)(text)) for text in texts]
        return [1 + len(text) // 4 for text in texts]

    def _preprocess(self, inputs: list[Any], prompt: str | None = None, **more: Any) -> Features:
        """Replaces the library's method; falls back to it for inputs without tokens or in an unverified form."""
        tokens = [getattr(text, "ids", None) for text in inputs]
        if self._form is None or more != self._more or prompt != self._prompt or not tokens or any(ids is None for ids in tokens):
            return self._library(inputs, prompt=prompt, **more)
        return self._features([ids for ids in tokens if ids is not None], self._form)

    def _features(self, tokens: Sequence[Ids], form: Mapping[str, Any]) -> Features:
        longest, left = max(map(len, tokens)), getattr(self._tokenizer, "padding_side", "right") == "left"
        ids = np.full((len(tokens), longest), getattr(self._tokenizer, "pad_token_id", None) or 0, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, its_ids in enumerate(tokens):
            where = slice(longest - len(its_ids), None) if left else slice(len(its_ids))
            ids[row, where], mask[row, where] = its_ids, 1
        made = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: torch.from_numpy(made[name]) if name in made else value for name, value in form.items()}

    def _verified_form(self) -> Mapping[str, Any] | None:
        """Return the library's features of probe texts if the features made from tokens are the same; None otherwise."""
        if self._own is None:
            return None
        longest: int = self._limit or getattr(self._tokenizer, "model_max_length", None) or 0  # where the library may truncate
        for texts in ([*TOKENIZER_PROBES, "word " * (longest if longest <= LONGEST_TRIED else 0)], TOKENIZER_PROBES[:1]):
            library = self._library(texts, prompt=self._prompt, **self._more)
            ids, _ = self._ids([self._prompt + text for text in texts])
            own = self._features([each for each in ids if each is not None], library)
            if list(own) != list(library) or not all(_same(own[name], value) for name, value in library.items()):
                return None
        return library


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)
