"""Counts tokens of parts of a text; each stretch of the text is tokenised once, however many parts contain it.

The splitting library asks for the size of about ten parts for each chunk, most of them as long as the chunk. Here a text has marks: positions where
the tokenizer starts afresh, whatever precedes them. Text between two marks is counted once. The count of a part is the sum between its first and last
mark, plus its two ends. The sum equals the count of the part alone; for a tokenizer not known to start afresh, parts are not added up.
"""

from __future__ import annotations

import json
import re
import string
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

STRETCH = 64  # minimum characters between two marks: longer stretches leave longer ends to recount, shorter ones cost a call each
BLOCK_BYTES = 1 << 20  # of a text, scanned at a time
TEXTS_PER_COUNT = 256  # bounds memory: the tokenizer's results are many times larger than the texts

# Every known word tokenizer starts afresh at a single space between letters: "one two" is "one" and " two".
BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
# BERT's tokens never contain or depend on preceding white space, and a Chinese character is a word.
BEFORE_SPACE = re.compile(r"[ \n\t\r]")
BEFORE_CHINESE = re.compile(r"[ \n\t\r\u4e00-\u9fff]")

Bytes = npt.NDArray[np.uint8]

_BY_CHARACTER = {"BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Precompiled"}
_BY_WORD = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel", "Punctuation", "Digits", "UnicodeScripts"}
# Replacements that are allowed: a space between letters stays one mark, whatever surrounds it.
_SPACES = ({"String": " "}, {"Regex": " {2,}"}, {"Regex": r"\s+"})
# Patterns of several tokenizer families that split at a space before letters.
_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}


class PartCounter(threading.local):
    """Counts the tokens of parts of one text, without special tokens. Each thread has its own text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._marks_at = tokenizer, marks_of(tokenizer)
        self._text, self._marks, self._sums, self._start = "", [0], [0], 0
        self._head = (0, 0, 0)  # cache of the last count: (start, stop, tokens)

    @property
    def adds_up(self) -> bool:
        """Whether counts of parts are added up; otherwise this class saves nothing."""
        return self._marks_at is not None

    def open(self, text: str) -> None:
        """Set the text whose parts will be counted."""
        self._marks = list(self._marks_in(text))
        stretches = [text[first:stop] for first, stop in pairwise(self._marks)]
        self._sums = [0, *accumulate(count_tokens(self._tokenizer, stretches, special=False))]
        self._text, self._start, self._head = text, 0, (0, 0, 0)

    def __call__(self, part: str) -> int:
        """Count the tokens of a part as if it were a text of its own."""
        start = self._place(part)
        stop = start + len(part)
        first, last = bisect_left(self._marks, start), bisect_right(self._marks, stop) - 1
        if start < 0 or first > last:
            return self._count(part)
        if self._head[:2] != (start, self._marks[first]):
            self._head = (start, self._marks[first], self._count(self._text[start : self._marks[first]]))
        return self._head[2] + self._sums[last] - self._sums[first] + self._count(self._text[self._marks[last] : stop])

    def at_least(self, text: memoryview) -> int:
        """Return a lower bound of the tokens of a UTF-8 text without tokenising it: each word has at least one. 0: unknown."""
        if self._marks_at is None:
            return 0
        data, words = np.frombuffer(text, np.uint8), _Words.of(self._tokenizer, punctuation=self._marks_at is not BETWEEN_WORDS)
        return sum(words.count(data[first : first + BLOCK_BYTES + 1]) for first in range(0, len(data), BLOCK_BYTES))

    def _place(self, part: str) -> int:
        """Return the position of the part, any of several, or -1."""
        if not self._text.startswith(part, self._start):
            position = self._text.find(part, self._start)
            self._start = position if position >= 0 else self._text.find(part)
        return self._start

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]) if text else 0

    def _marks_in(self, text: str) -> Iterator[int]:
        at, marks = 0, self._marks_at
        while marks and (found := marks.search(text, at + STRETCH)):
            at = found.start()
            yield at


def count_tokens(tokenizer: Tokenizer, texts: list[str], *, special: bool = True) -> list[int]:
    """Count the tokens of each text."""
    counts: list[int] = []
    for first in range(0, len(texts), TEXTS_PER_COUNT):
        encodings = tokenizer.encode_batch_fast(texts[first : first + TEXTS_PER_COUNT], add_special_tokens=special)
        counts += [len(encoding) for encoding in encodings]
    return counts


def marks_of(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """Return the pattern of positions where a tokenizer starts afresh; None if unknown."""
    normalizers, splitters = _steps(tokenizer.normalizer, "normalizers"), _steps(tokenizer.pre_tokenizer, "pretokenizers")
    if getattr(tokenizer.model, "dropout", None) or not all(_by_character(step) for step in normalizers):
        return None
    marks = _marks_between_words(normalizers, splitters)
    own = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return None if marks is None or any(map(marks.search, own)) or _eats_spaces(tokenizer, marks) else marks


def _marks_between_words(normalizers: list[dict[str, Any]], splitters: list[dict[str, Any]]) -> re.Pattern[str] | None:
    if [step["type"] for step in splitters] == ["BertPreTokenizer"]:
        chinese = any(step["type"] == "BertNormalizer" and step["handle_chinese_chars"] for step in normalizers)
        return BEFORE_CHINESE if chinese else BEFORE_SPACE
    known = all(step["type"] in _BY_WORD or _split_before_words(step) for step in splitters)
    return BETWEEN_WORDS if known and any(map(_splits_words, splitters)) else None


@dataclass(frozen=True, slots=True)
class _Words:
    """Tables of 256 bytes: those that are tokens (`alone`), and those that begin one (`letter`) after others (`before`)."""

    alone: Bytes
    letter: Bytes
    before: Bytes

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, punctuation: bool) -> _Words:
        """`punctuation`: as in BERT, words end at any white space and each punctuation mark is a token, except those in added tokens."""
        marks = string.punctuation if punctuation else ""
        added = "".join(token.content for token in tokenizer.get_added_tokens_decoder().values())
        begins = string.ascii_letters + (string.digits if punctuation else "")
        return cls(alone=_table(set(marks) - set(added)), letter=_table(begins), before=_table(" \n\t\r" + marks if punctuation else " "))

    def count(self, data: Bytes) -> int:
        """Count the tokens that begin in a block, whose last byte is also the first of the next block."""
        first = data[:-1] if len(data) > BLOCK_BYTES else data
        return int(np.count_nonzero(self.alone[first]) + np.count_nonzero(self.before[data[:-1]] & self.letter[data[1:]]))


def _table(characters: Iterable[str]) -> Bytes:
    table = np.zeros(256, np.uint8)
    table[[ord(character) for character in characters]] = 1
    return table


def _steps(step: Any, inner: str) -> list[dict[str, Any]]:
    """Return the settings of each step of a tokenizer component."""
    if step is None:
        return []
    settings = json.loads(step.__getstate__())
    return list(settings[inner]) if settings["type"] == "Sequence" else [settings]


def _by_character(step: dict[str, Any]) -> bool:
    """Return whether a normalizer treats the text on both sides of a space between letters independently."""
    return step["type"] in _BY_CHARACTER or (step["type"] == "Replace" and step["pattern"] in _SPACES)


def _splits_words(step: dict[str, Any]) -> bool:
    match step["type"]:
        case "ByteLevel":
            return bool(step.get("use_regex", True))
        case "Metaspace":
            return bool(step.get("split", True))
        case "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit":
            return True
    return _split_before_words(step)


def _split_before_words(step: dict[str, Any]) -> bool:
    return step["type"] == "Split" and step["pattern"].get("Regex") in _PATTERNS and step["behavior"] == "Isolated"


def _eats_spaces(tokenizer: Tokenizer, marks: re.Pattern[str]) -> bool:
    """Return whether an added token absorbs a space between letters."""
    added = tokenizer.get_added_tokens_decoder().values()
    return marks is BETWEEN_WORDS and any(
        (token.lstrip and token.content[:1].isalpha()) or (token.rstrip and token.content[-1:].isalpha()) for token in added
    )
