"""Tokens of parts of a text: each stretch of the text is tokenised once, however many parts it is in.

The library that splits asks for the size of some ten parts for each chunk, most of them as long as the chunk. Here a text has marks, places where the
tokenizer begins anew whatever stands before, and what is between two marks is counted once. A part is then what lies between its first and its last
mark, added up, and its two ends. The sum is the count of the part by itself: where a tokenizer is not known to begin anew, parts are not added up.
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

STRETCH = 64  # characters between two marks, at least: longer ones leave longer ends to count again, shorter ones cost a call each
BLOCK_BYTES = 1 << 20  # of a text, looked through at a time
TEXTS_PER_COUNT = 256  # texts: what the tokenizer returns is many times larger

# Every known tokenizer of words begins anew at a single space between letters: "one two" is "one" and " two".
BETWEEN_WORDS = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
# BERT's tokens never hold or follow white space, and a Chinese character is a word.
BEFORE_SPACE = re.compile(r"[ \n\t\r]")
BEFORE_CHINESE = re.compile(r"[ \n\t\r\u4e00-\u9fff]")

Bytes = npt.NDArray[np.uint8]

_BY_CHARACTER = {"BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Precompiled"}
_BY_WORD = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Metaspace", "ByteLevel", "Punctuation", "Digits", "UnicodeScripts"}
# What may be replaced: a space between letters is one mark afterwards, whatever is around it.
_SPACES = ({"String": " "}, {"Regex": " {2,}"}, {"Regex": r"\s+"})
# What splits at a space before letters, by the pattern as tokenizers of several families have it.
_PATTERNS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}


class PartCounter(threading.local):
    """Counts the tokens of parts of one text at a time, without special ones. Each thread has a text of its own."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._marks_at = tokenizer, marks_of(tokenizer)
        self._text, self._marks, self._sums, self._start = "", [0], [0], 0
        self._head = (0, 0, 0)  # of which characters the tokens were counted last, and how many they were

    @property
    def adds_up(self) -> bool:
        """Whether parts of a text are added up; otherwise nothing is gained by asking here."""
        return self._marks_at is not None

    def open(self, text: str) -> None:
        """From now on parts of this text are asked for."""
        self._marks = list(self._marks_in(text))
        stretches = [text[first:stop] for first, stop in pairwise(self._marks)]
        self._sums = [0, *accumulate(count_tokens(self._tokenizer, stretches, special=False))]
        self._text, self._start, self._head = text, 0, (0, 0, 0)

    def __call__(self, part: str) -> int:
        """The tokens of a part, as the tokenizer counts them in a text of its own."""
        start = self._place(part)
        stop = start + len(part)
        first, last = bisect_left(self._marks, start), bisect_right(self._marks, stop) - 1
        if start < 0 or first > last:
            return self._count(part)
        if self._head[:2] != (start, self._marks[first]):
            self._head = (start, self._marks[first], self._count(self._text[start : self._marks[first]]))
        return self._head[2] + self._sums[last] - self._sums[first] + self._count(self._text[self._marks[last] : stop])

    def at_least(self, text: memoryview) -> int:
        """Tokens that a text of UTF-8 has at least, found without its tokenizer: each word has one. 0: nothing is known."""
        if self._marks_at is None:
            return 0
        data, words = np.frombuffer(text, np.uint8), _Words.of(self._tokenizer, punctuation=self._marks_at is not BETWEEN_WORDS)
        return sum(words.count(data[first : first + BLOCK_BYTES + 1]) for first in range(0, len(data), BLOCK_BYTES))

    def _place(self, part: str) -> int:
        """Where the part is; of several places any is right, and -1 is none."""
        if not self._text.startswith(part, self._start):
            found = self._text.find(part, self._start)
            self._start = found if found >= 0 else self._text.find(part)
        return self._start

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]) if text else 0

    def _marks_in(self, text: str) -> Iterator[int]:
        at, marks = 0, self._marks_at
        while marks and (found := marks.search(text, at + STRETCH)):
            at = found.start()
            yield at


def count_tokens(tokenizer: Tokenizer, texts: list[str], *, special: bool = True) -> list[int]:
    """The tokens of each text."""
    counts: list[int] = []
    for first in range(0, len(texts), TEXTS_PER_COUNT):
        some = tokenizer.encode_batch_fast(texts[first : first + TEXTS_PER_COUNT], add_special_tokens=special)
        counts += [len(encoded) for encoded in some]
    return counts


def marks_of(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What stands where a tokenizer begins anew; None: that is not known of it."""
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
    """Which bytes are tokens, and which begin one behind which others; each a table of 256."""

    alone: Bytes
    letter: Bytes
    before: Bytes

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, punctuation: bool) -> _Words:
        """`punctuation`: words end at any white space, and each mark of punctuation is a token, as BERT has it, but for those of added tokens."""
        marks = string.punctuation if punctuation else ""
        added = "".join(token.content for token in tokenizer.get_added_tokens_decoder().values())
        begins = string.ascii_letters + (string.digits if punctuation else "")
        return cls(alone=_table(set(marks) - set(added)), letter=_table(begins), before=_table(" \n\t\r" + marks if punctuation else " "))

    def count(self, data: Bytes) -> int:
        """Tokens that begin in some bytes, the last of which is seen again as the next ones' first."""
        first = data[:-1] if len(data) > BLOCK_BYTES else data
        return int(np.count_nonzero(self.alone[first]) + np.count_nonzero(self.before[data[:-1]] & self.letter[data[1:]]))


def _table(characters: Iterable[str]) -> Bytes:
    table = np.zeros(256, np.uint8)
    table[[ord(character) for character in characters]] = 1
    return table


def _steps(step: Any, inner: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer, each as its settings."""
    if step is None:
        return []
    settings = json.loads(step.__getstate__())
    return list(settings[inner]) if settings["type"] == "Sequence" else [settings]


def _by_character(step: dict[str, Any]) -> bool:
    """Whether a normalizer changes what is before a space between letters whatever is behind, and the other way round."""
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
    """Whether an added token takes a space between letters with it."""
    added = tokenizer.get_added_tokens_decoder().values()
    return marks is BETWEEN_WORDS and any(
        (token.lstrip and token.content[:1].isalpha()) or (token.rstrip and token.content[-1:].isalpha()) for token in added
    )
