"""Full-text search: the analyzers of each server, and the fusion of vector hits and text hits.

Measured on Milvus Lite 3.2.2: it splits at everything but letters, digits and underscores and lowers them, has the tokenizers
standard and jieba, has no built-in analyzers (`type: english`), silently accepts every filter but applies only `stop`, with
words but without lists such as `_english_`. Its statistics (document frequency, text length) are per segment, so BM25
scores of rows in different segments are not comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import Field

from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText, Server
from tasks.domain.strict import Strict

SPARSE_FIELD = "sparse"  # the field that the server fills from the text
FULL_TEXT_SINCE = (2, 5, 0)
BM25_K1, BM25_B = 1.2, 0.75  # as on Milvus servers; Milvus Lite has 1.5 for k1
CANDIDATES = 100  # candidates of each side of a hybrid search
LITE_HAS = "it has the tokenizers standard and jieba, and the filters lowercase and stop (with stop_words, each of them spelled out)"
LITE_TOKENIZERS = {"standard": ("type",), "jieba": ("type", "mode", "dict")}  # with the settings of each
RRF_K = 60


class Fusion(Strict):
    """The fusion of two lists of hits."""

    rrf_k: int = Field(RRF_K, ge=1, le=16_384, description="Reciprocal rank fusion: a hit is worth 1 / (k + rank) on each side.")
    weights: tuple[float, float] | None = Field(
        None, description="Weights of the vector and the text score, each scaled to 0..1; None: ranks are fused, not scores."
    )


def check_full_text(full_text: FullText, server: Server) -> None:
    """Check, before anything is encoded, that a server supports the full-text settings.

    Raises:
        BadInput: names the server, what it lacks, and what supports it.
    """
    if server.kind == "Milvus" and server.number < FULL_TEXT_SINCE:
        raise BadInput(
            f"target.full_text needs Milvus 2.5, and this is {server}: set target.full_text: off, or use a newer server, Milvus Lite or Zilliz Cloud"
        )
    if server.kind == "Milvus Lite" and (lacks := next(filter(None, _lite_lacks(full_text)), None)):
        raise BadInput(f"target.full_text.analyzer: Milvus Lite has no {lacks}: {LITE_HAS}")


def tokenizer_of(full_text: FullText) -> str:
    """Return the name of the tokenizer, or of the built-in analyzer if there is no tokenizer."""
    named = full_text.params.get("tokenizer") or full_text.params.get("type") or "standard"
    return str(named.get("type", "standard") if isinstance(named, dict) else named)


def _lite_lacks(full_text: FullText) -> Iterator[str | None]:
    """Yield the settings that Milvus Lite would silently ignore or does not support."""
    params, name = full_text.params, tokenizer_of(full_text)
    yield from (f"setting '{each}'" for each in params if each not in ("tokenizer", "type", "filter"))
    if name not in LITE_TOKENIZERS:
        yield f"{'tokenizer' if 'tokenizer' in params else 'analyzer'} '{name}'"
        return
    tokenizer = params.get("tokenizer") or params.get("type")
    if isinstance(tokenizer, dict):
        yield from () if "type" in tokenizer else ["tokenizer without a type"]
        yield from (f"setting '{each}' of the tokenizer {name}" for each in tokenizer if each not in LITE_TOKENIZERS[name])
        if (mode := tokenizer.get("mode", "search")) not in ("search", "exact"):
            yield f"mode '{mode}' of the tokenizer {name}"
    filters = params.get("filter") or []
    yield from map(_lacks_of_filter, filters) if isinstance(filters, list) else [f"filter outside of a list: {filters!r}"]


def _lacks_of_filter(each: Any) -> str | None:
    if each == "lowercase":
        return None
    settings = each if isinstance(each, dict) else {"type": each}
    words = settings.get("stop_words") if settings.get("type") == "stop" else None
    if not isinstance(words, list):
        return f"filter '{settings.get('type')}'" + (" without a list of stop_words" if settings.get("type") == "stop" else "")
    for name in settings.keys() - {"type", "stop_words"}:
        return f"setting '{name}' of the filter stop"
    for word in map(str, words):
        if word.startswith("_") or word != word.lower():
            return (
                f"list of stop words '{word}'" if word.startswith("_") else f"stop word with capitals, as '{word}' (it lowers texts first)"
            )
    return None


def fuse(lists: Sequence[Sequence[tuple[str, float]]], metrics: Sequence[str], fusion: Fusion, k: int) -> list[tuple[str, float]]:
    """Fuse lists of (key, score), the best first, into the k best keys with their fused scores; metrics: of each list's scores."""
    fused: dict[str, float] = {}
    for place, (hits, metric) in enumerate(zip(lists, metrics, strict=True)):
        for key, value in _scaled(hits, metric, fusion.weights[place]) if fusion.weights else _by_rank(hits, fusion.rrf_k):
            fused[key] = fused.get(key, 0.0) + value
    return sorted(fused.items(), key=lambda each: -each[1])[:k]


def _by_rank(hits: Sequence[tuple[str, float]], k: int) -> Iterable[tuple[str, float]]:
    return ((key, 1.0 / (k + rank)) for rank, (key, _) in enumerate(hits, 1))


def _scaled(hits: Sequence[tuple[str, float]], metric: str, weight: float) -> Iterable[tuple[str, float]]:
    return ((key, weight * SCALES[metric](score)) for key, score in hits)


# The functions by which Milvus and Milvus Lite scale scores to 0..1 before weighting.
SCALES: dict[str, Callable[[float], float]] = {
    "COSINE": lambda score: (1 + score) / 2,
    "IP": lambda score: 0.5 + math.atan(score) / math.pi,
    "L2": lambda score: 1 - 2 * math.atan(score) / math.pi,
    "BM25": lambda score: 2 * math.atan(score) / math.pi,
}
