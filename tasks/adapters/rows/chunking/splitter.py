"""Splits a text into chunks that the encoder reads whole, in the memory of a window."""

from __future__ import annotations

import importlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tasks.adapters.models.model_metadata import LONGEST_TOKEN, ModelShape
from tasks.adapters.rows.chunking.token_counts import PartCounter, count_tokens
from tasks.domain.errors import BadInput
from tasks.domain.job.texts.chunks import MOST_CHUNKS, Chunks

SPLIT_BYTES = 64 << 10  # bytes of UTF-8 in a window; the library needs about ten times as much memory
LEAST_ROOM = 4  # tokens of a chunk beside prompt and special ones: one character may need that many


class TooLong(ValueError):
    """A text that cannot be split as required; the message is the reason of a quarantined row."""


@dataclass(slots=True)
class Spans:
    """Positions of a text's chunks, in order: characters and UTF-8 bytes [start, stop), and tokens."""

    starts: array[int] = field(default_factory=lambda: array("q"))
    stops: array[int] = field(default_factory=lambda: array("q"))
    first_bytes: array[int] = field(default_factory=lambda: array("q"))
    stop_bytes: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("l"))

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, stop: int, first_byte: int, stop_byte: int, tokens: int) -> None:
        """Add a chunk.

        Raises:
            TooLong: the document has too many chunks.
        """
        check_count(len(self) + 1)
        self.starts.append(start)
        self.stops.append(stop)
        self.first_bytes.append(first_byte)
        self.stop_bytes.append(stop_byte)
        self.tokens.append(tokens)

    @property
    def overlap_tokens(self) -> int:
        """Approximate number of tokens that lie in two chunks, from the share of common characters."""
        overlap = 0.0
        for at, ((_, stop), (start, end)) in enumerate(pairwise(zip(self.starts, self.stops, strict=True))):
            overlap += max(0, stop - start) / max(1, end - start) * self.tokens[at + 1]
        return round(overlap)


def check_count(chunks: int) -> None:
    """Raise TooLong if a document has too many chunks."""
    if chunks > MOST_CHUNKS:
        raise TooLong(f"too many chunks: more than {MOST_CHUNKS:,} in one document: split it, or set source.chunks.tokens higher")


class ChunkSplitter:
    """Splits texts for one encoder; thread-safe.

    Args:
        chunks: the job's settings.
        shape: tokenizer and prompt of the encoder's model.
        limit: token limit of the loaded encoder; None: it has no limit.
        window: bytes to split at a time.

    Raises:
        BadInput: the model lacks a tokenizer, this machine lacks a package, or chunks would exceed the model's limit.
    """

    def __init__(self, chunks: Chunks, shape: ModelShape, limit: int | None, *, window: int = SPLIT_BYTES) -> None:
        self._limit, self._prompt, self._window = chunk_tokens(chunks, limit), shape.prompt, window
        self._tokenizer = read_tokenizer(shape.tokenizer)
        self._room = room = self._limit - self._count([""])[0]
        if room < LEAST_ROOM + chunks.overlap:
            raise BadInput(
                f"source.chunks: prompt, special tokens and an overlap of {chunks.overlap} leave no room for text in chunks of {self._limit} "
                "tokens: set tokens higher or overlap lower"
            )
        self.longest_chunk = self._limit * LONGEST_TOKEN  # bytes; a longer text is rarely one chunk
        self._parts = PartCounter(self._tokenizer)
        self._library = _library(chunks, self._parts if self._parts.adds_up else self._tokenizer, room)

    def fits(self, texts: list[str]) -> list[int]:
        """Return the tokens of each text that fits into one chunk; 0 for the others."""
        return [tokens if tokens <= self._limit else 0 for tokens in self._count(texts)]

    def split(self, text: memoryview) -> Spans:
        """Return the positions of the chunks of a UTF-8 text.

        Raises:
            TooLong: it cannot be split, or has too many chunks.
        """
        check_count(self._parts.at_least(text) // self._room)
        spans, begin, characters = Spans(), 0, 0
        while begin < len(text):
            stop = _window_end(text, begin, self._window)
            window, last = str(text[begin:stop], "utf-8"), stop == len(text)
            chunks = self._chunks_of(window)
            complete = chunks if last or len(chunks) < 2 or not chunks[-1][0] else chunks[:-1]  # the last may continue beyond the window
            _add(spans, window, complete, characters, begin)
            if len(complete) < len(chunks):
                head = window[: chunks[-1][0]]
                begin, characters = begin + len(head.encode()), characters + len(head)
            else:
                begin, characters = stop, characters + len(window)
        return spans

    def _chunks_of(self, window: str) -> list[tuple[int, int, int]]:
        """Return (start, stop, tokens) of each chunk, recounting tokens as a rank does."""
        self._parts.open(window)
        chunks = self._library.chunk_indices(window)
        counts = self._count([text for _, text in chunks])
        return [each for (start, text), tokens in zip(chunks, counts, strict=True) for each in self._fitting(start, text, tokens)]

    def _fitting(self, start: int, text: str, tokens: int) -> Iterator[tuple[int, int, int]]:
        """Yield (start, stop, tokens) of a chunk, or of its halves if it exceeds the limit despite the library's count."""
        if tokens <= self._limit:
            yield start, start + len(text), tokens
            return
        if len(text) == 1:
            raise TooLong(f"too few tokens in a chunk: the character {text!r} alone has {tokens}, {self._limit} allowed")
        half = text.rfind(" ", 1, len(text) // 2) + 1 or len(text) // 2
        for first, piece in ((start, text[:half]), (start + half, text[half:])):
            yield from self._fitting(first, piece, self._count([piece])[0])

    def _count(self, texts: list[str]) -> list[int]:
        """Count tokens as a rank does (`worker.encoders.tokenizer`)."""
        return count_tokens(self._tokenizer, [self._prompt + text for text in texts])


def chunk_tokens(chunks: Chunks, limit: int | None) -> int:
    """Return the maximum tokens of a chunk, for a model with this limit.

    Raises:
        BadInput: the setting exceeds the limit, or is auto and the limit is unknown.
    """
    if chunks.tokens == "auto":
        if limit is None:
            raise BadInput("source.chunks.tokens: the number of tokens that the model reads is unknown, so auto cannot work: set a number")
        return limit
    if limit is not None and chunks.tokens > limit:
        raise BadInput(f"source.chunks.tokens: {chunks.tokens} is more than the {limit} tokens that the model reads: set it lower, or auto")
    return chunks.tokens


def read_tokenizer(path: Path | None) -> Tokenizer:
    """Read the tokenizer of a model's folder, without truncation and padding.

    Raises:
        BadInput: it is missing or cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path else None
    except Exception as error:  # the library raises bare Exception
        raise BadInput(f"source.chunks: {path} cannot be read: {error}") from error
    if tokenizer is None:
        raise BadInput(
            "source.chunks: the model's folder has no tokenizer.json, which measures chunks: save its tokenizer there with save_pretrained"
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_language(chunks: Chunks) -> None:
    """Raise BadInput if the grammar of the programming language is not installed."""
    if chunks.language:
        _grammar(chunks.language)


def _library(chunks: Chunks, counter: Tokenizer | PartCounter, room: int) -> Any:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter  # noqa: PLC0415 - only chunking needs it

    kind: Any = CodeSplitter if chunks.language else MarkdownSplitter if chunks.split == "markdown" else TextSplitter
    made = kind.from_callback if isinstance(counter, PartCounter) else kind.from_huggingface_tokenizer
    grammar = [_grammar(chunks.language)] if chunks.language else []
    return made(*grammar, counter, room, overlap=chunks.overlap)


def _grammar(language: str) -> object:
    package = f"tree-sitter-{language.replace('_', '-')}"
    try:
        module = importlib.import_module(f"tree_sitter_{language}")
    except ImportError as error:
        raise BadInput(f"source.chunks.split: code:{language} needs a grammar: pip install {package}") from error
    grammar = getattr(module, "language", None) or getattr(module, f"language_{language}", None)
    if grammar is None:
        raise BadInput(f"source.chunks.split: the package {package} has no grammar called {language}")
    return grammar()


def _window_end(text: memoryview, begin: int, size: int) -> int:
    """Return the end of a window: after a paragraph in its second half, else after a line or a word, else between two characters."""
    stop = begin + size
    if stop >= len(text):
        return len(text)
    half = begin + size // 2
    tail = bytes(text[half:stop])
    for mark in (b"\n\n", b"\n", b" "):
        if (at := tail.rfind(mark)) >= 0:
            return half + at + len(mark)
    while text[stop] & 0xC0 == 0x80:  # inside a character
        stop -= 1
    return stop


def _add(spans: Spans, window: str, chunks: list[tuple[int, int, int]], characters: int, begin: int) -> None:
    plain = window.isascii()
    at = first_byte = 0
    for start, stop, tokens in chunks:
        # Chunks may overlap, but each begins after the start of the previous one.
        first_byte += (start - at) if plain else len(window[at:start].encode())
        at = start
        size = stop - start if plain else len(window[start:stop].encode())
        spans.add(characters + start, characters + stop, begin + first_byte, begin + first_byte + size, tokens)
