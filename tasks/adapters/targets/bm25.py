"""BM25 in memory, for the in-memory twin of Milvus: exact, rebuilt for each search."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from tasks.domain.target.full_text import BM25_B, BM25_K1

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Words of letters, digits and underscores, in lower case, like Milvus' standard analyzer. The twin has only this analyzer."""
    return _WORD.findall(text.lower())


class Bm25:
    """A BM25 index of texts by key."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._counts = {key: Counter(words_of(text)) for key, text in texts.items()}
        self._lengths = {key: counts.total() for key, counts in self._counts.items()}
        self._mean = sum(self._lengths.values()) / max(1, len(self._lengths)) or 1.0
        self._rows_with = Counter(word for counts in self._counts.values() for word in counts)

    def search(self, text: str, k: int) -> list[tuple[str, float]]:
        """The k best keys with their scores, among texts that have any of the words."""
        query = Counter(words_of(text))
        scores = {key: self._score(key, query) for key, counts in self._counts.items() if not query.keys().isdisjoint(counts)}
        return sorted(scores.items(), key=lambda each: -each[1])[:k]

    def _score(self, key: str, query: Counter[str]) -> float:
        counts, length = self._counts[key], BM25_K1 * (1 - BM25_B + BM25_B * self._lengths[key] / self._mean)
        matches = ((word, times, counts[word]) for word, times in query.items() if word in counts)
        return sum(times * self._rarity(word) * count * (BM25_K1 + 1) / (count + length) for word, times, count in matches)

    def _rarity(self, word: str) -> float:
        rows = self._rows_with[word]
        return math.log((len(self._counts) - rows + 0.5) / (rows + 0.5) + 1)
