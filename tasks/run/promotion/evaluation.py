"""Evaluate the retrieval quality of a collection: questions with known answers, in every search mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.domain.job.gate import Question, question_scores
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.full_text import Fusion
from tasks.domain.target.retrieval_quality import CONFIDENCE_LEVEL, Evaluation, Interval, ModeQuality
from tasks.run.promotion.search_modes import answer, modes_of

RESAMPLES, AT_ONCE = 1_000, 100
SEED = 7  # fixed, so that the same questions and answers have the same interval


def measure_quality(
    collection: Collection,
    made: CollectionSpec,
    vectors: np.ndarray,
    questions: Sequence[Question],
    k: int,
    *,
    fusion: Fusion | None = None,
) -> Evaluation:
    """Evaluate a collection. `vectors`: float32 of shape (questions, dim). Known answers are rows of the source: of chunks, the documents."""
    by_document = has_chunks(made.fields)
    texts = [question.query for question in questions]
    modes = []
    for mode in modes_of(made):
        answers = answer(collection, mode, vectors, texts, k, fusion=fusion, by_document=by_document)
        ranking = [[str(hit.fields["document"]) if by_document else hit.id for hit in hits] for hits in answers]
        scores = [question_scores(keys, question, k) for keys, question in zip(ranking, questions, strict=True)]
        ndcg, recall, mrr = intervals(np.array(scores))
        modes.append(ModeQuality(mode=mode, ndcg=ndcg, recall=recall, mrr=mrr))
    return Evaluation(collection=made.name, questions=len(questions), at_k=k, modes=tuple(modes))


def intervals(scores: np.ndarray) -> list[Interval]:
    """The mean of each column with its bootstrap interval (resampling questions with replacement); scores: (questions, measures)."""
    random, count = np.random.default_rng(SEED), len(scores)
    drawn = [random.multinomial(count, np.full(count, 1 / count), size=AT_ONCE) @ scores / count for _ in range(RESAMPLES // AT_ONCE)]
    low, high = np.quantile(np.concatenate(drawn), [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2], axis=0)
    return [Interval(mean=float(m), low=float(lo), high=float(hi)) for m, lo, hi in zip(scores.mean(axis=0), low, high, strict=True)]
