"""Retrieval quality of a collection, measured with questions of known answers: by vectors, by words and by both."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.job.gate import GateScores, SearchMode
from tasks.domain.strict import Strict

CONFIDENCE_LEVEL = 0.95


class Interval(Strict):
    """A mean over the questions with its 95% confidence interval (bootstrap)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


class ModeQuality(Strict):
    """The measures of one search mode."""

    mode: SearchMode
    ndcg: Interval = Field(description="nDCG@k.")
    recall: Interval = Field(description="recall@k.")
    mrr: Interval = Field(description="Mean reciprocal rank of the first relevant hit among k.")


class Evaluation(Strict):
    """The measures of all search modes of a collection."""

    collection: str
    questions: int
    at_k: int
    modes: tuple[ModeQuality, ...] = Field(description="In the order dense or sparse, text, hybrid, as far as the collection has them.")

    def scores(self, mode: SearchMode) -> GateScores:
        """Return the means of one search mode."""
        (quality,) = (each for each in self.modes if each.mode == mode)
        means = {"ndcg": quality.ndcg.mean, "recall": quality.recall.mean, "mrr": quality.mrr.mean}
        return GateScores(collection=self.collection, questions=self.questions, at_k=self.at_k, mode=mode, **means)

    @property
    def lines(self) -> list[str]:
        """One line for each search mode."""
        k = self.at_k
        return [f"{each.mode} nDCG@{k} {each.ndcg}, recall@{k} {each.recall}, MRR {each.mrr}" for each in self.modes]
