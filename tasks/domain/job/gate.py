"""The promotion gate: queries with known answers, run against the new collection and against the current one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

SearchMode = Literal["dense", "text", "hybrid", "sparse"]
FLOAT32_ROWS = 2_000
VECTOR_MODES: tuple[SearchMode, ...] = ("dense", "sparse")  # search by vectors, of whichever kind a collection has


class Gate(Strict):
    """Retrieval quality that a new collection must reach before the alias moves to it."""

    queries: str = Field(
        description="JSON Lines of {query, relevant: [ids] or {id: gain}}, or CSV with one answer per line: columns query, id and optionally gain."
    )
    at_k: int = Field(10, ge=1, le=1_000, description="Number of hits that are evaluated.")
    mode: SearchMode = Field(
        "dense",
        title="Mode",
        description="Search mode that must reach the minimum: dense (by vectors), text or hybrid; these two need target.full_text. sparse: instead"
        " of dense, with encoder.kind sparse. All modes are measured.",
    )
    minimum: float = Field(0.0, ge=0, le=1, description="Minimum nDCG@k of the new collection.")
    max_drop: float = Field(
        0.02, ge=0, le=1, description="Maximum drop of nDCG@k below the current collection. 1: the current collection is not queried."
    )
    float32_rows: int = Field(
        FLOAT32_ROWS,
        ge=0,
        le=100_000,
        title="Rows in float32",
        description="With encoder.precision int8 or float8: number of rows, besides the judged ones, that are also embedded in float32, so that the"
        " report shows nDCG@k of both precisions over the same rows. Once for each set of queries, on the flow's CPU, for at most a minute. 0: no comparison.",
    )


class Question(Strict):
    """A query, and its relevant keys with their gains."""

    query: str
    relevant: dict[str, float]


class GateScores(Strict):
    """Means over the questions of a gate, for one collection and one search mode."""

    collection: str
    questions: int
    at_k: int
    mode: SearchMode = "dense"
    ndcg: float
    recall: float
    mrr: float = 0.0


def ndcg_at(hits: Sequence[str], relevant: Mapping[str, float], k: int) -> float:
    """Return the normalised discounted cumulative gain of the first k hits, 0 to 1 (Järvelin and Kekäläinen, 2002; linear gains).

    A repeated key counts once. Unjudged keys have gain 0.
    """
    ranked = list(dict.fromkeys(hits))[:k]
    best = _dcg(sorted(relevant.values(), reverse=True)[:k])
    return _dcg([relevant.get(key, 0.0) for key in ranked]) / best if best else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def recall_at(hits: Sequence[str], relevant: Mapping[str, float], k: int) -> float:
    """Return the share of the relevant keys (gain above 0) that are among the first k hits."""
    keys = {key for key, gain in relevant.items() if gain > 0}
    return len(keys.intersection(hits[:k])) / len(keys) if keys else 0.0


def reciprocal_rank_at(hits: Sequence[str], relevant: Mapping[str, float], k: int) -> float:
    """Return 1 / rank of the first relevant key (gain above 0) among the first k hits; 0 if there is none."""
    ranked = list(dict.fromkeys(hits))[:k]
    return next((1 / place for place, key in enumerate(ranked, 1) if relevant.get(key, 0.0) > 0), 0.0)


def question_scores(hits: Sequence[str], question: Question, k: int) -> tuple[float, float, float]:
    """Return nDCG@k, recall@k and the reciprocal rank of one question; hits: keys, the best first."""
    return ndcg_at(hits, question.relevant, k), recall_at(hits, question.relevant, k), reciprocal_rank_at(hits, question.relevant, k)


def why_not(gate: Gate, new: GateScores, old: GateScores | None) -> str | None:
    """Return why the new collection must not be promoted; None if it may."""
    by = "" if new.mode in VECTOR_MODES else f" by {new.mode}"
    if new.ndcg < gate.minimum:
        return f"nDCG@{gate.at_k}{by} is {new.ndcg:.4f}, below target.gate.minimum ({gate.minimum:g})"
    if old and new.ndcg < old.ndcg - gate.max_drop:
        return f"nDCG@{gate.at_k}{by} is {new.ndcg:.4f}, that of '{old.collection}' {old.ndcg:.4f}: more than target.gate.max_drop below it ({gate.max_drop:g})"
    return None
