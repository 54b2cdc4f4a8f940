"""How well a collection answers questions of which the answers are known: by meaning, by words and by both."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.job.gate import GateScores, SearchMode
from tasks.domain.strict import Strict

CONFIDENCE_LEVEL = 0.95


class Interval(Strict):
    """A mean over the questions, and where it would lie with other questions of this kind (95%, bootstrap)."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({self.low:.4f} to {self.high:.4f})"


class ModeQuality(Strict):
    """The measures of one way to search."""

    mode: SearchMode
    ndcg: Interval = Field(description="nDCG@k.")
    recall: Interval = Field(description="recall@k.")
    mrr: Interval = Field(description="Mean reciprocal rank of the first relevant hit among k.")


class Evaluation(Strict):
    """Every way in which a collection can be searched, side by side."""

    collection: str
    questions: int
    at_k: int
    modes: tuple[ModeQuality, ...] = Field(description="In the order dense or sparse, text, hybrid, as far as there are.")

    def scores(self, mode: SearchMode) -> GateScores:
        """The means of one way."""
        (of,) = (each for each in self.modes if each.mode == mode)
        means = {"ndcg": of.ndcg.mean, "recall": of.recall.mean, "mrr": of.mrr.mean}
        return GateScores(collection=self.collection, questions=self.questions, at_k=self.at_k, mode=mode, **means)

    @property
    def lines(self) -> list[str]:
        """One for each way."""
        k = self.at_k
        return [f"{of.mode} nDCG@{k} {of.ndcg}, recall@{k} {of.recall}, MRR {of.mrr}" for of in self.modes]
