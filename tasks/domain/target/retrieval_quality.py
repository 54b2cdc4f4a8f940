"""Retrieval quality of a collection, measured with questions of known answers: by vectors, by words and by both."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.encoder_identity import Precision
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


class PrecisionQuality(Strict):
    """Retrieval quality of vectors in 8 bits and in float32: the same questions, ranked exactly over the same rows of a collection.

    The rows are the nearest of each question in 8 bits, and all judged rows. The measures in 8 bits therefore equal those of the whole collection.
    The measures in float32 are upper bounds of those of the whole collection: other rows could only rank above relevant ones.
    """

    format_version: Literal[1] = 1
    run: str = Field(description="The run that measured it; empty: `kitestring evaluate`.")
    at: str = Field(description="Time of the measurement: UTC, ISO 8601.")
    collection: str
    precision: Precision
    at_k: int
    questions: int = Field(ge=1, description="Number of questions compared.")
    of_questions: int = Field(description="Number of questions in the file.")
    nearest: int = Field(description="Maximum number of nearest rows compared for a question.")
    rows: int = Field(description="Number of rows ranked.")
    of_rows: int = Field(description="Number of rows in the collection.")
    absent: int = Field(0, description="Judged keys of the compared questions that the collection lacks: not found in either precision.")
    unread: int = Field(0, description="Nearest rows that were left out because their text could not be read.")
    searched: ModeQuality = Field(description="8 bits, searched in the whole collection through its index.")
    reduced: ModeQuality = Field(description="8 bits, over the compared rows.")
    float32: ModeQuality = Field(description="float32, over the compared rows.")
    difference: ModeQuality = Field(description="8 bits minus float32, paired by question.")

    @property
    def asked(self) -> str:
        """The questions and the rows that were compared, in words."""
        some = f"{self.questions:,}" if self.questions == self.of_questions else f"{self.questions:,} of {self.of_questions:,}"
        over = f"all {self.rows:,} rows" if self.rows == self.of_rows else f"{self.rows:,} of {self.of_rows:,} rows"
        judged = (
            ""
            if self.rows == self.of_rows
            else ", all judged rows among them"
            if not self.absent
            else ", all judged rows of the collection among them"
        )
        absent = f"; {self.absent:,} judged {'key is' if self.absent == 1 else 'keys are'} not in the collection" if self.absent else ""
        unread = f"; {self.unread:,} {'row' if self.unread == 1 else 'rows'} could not be read" if self.unread else ""
        return f"{some} {'question' if self.of_questions == 1 else 'questions'} over {over}{judged}{absent}{unread}"

    @property
    def line(self) -> str:
        """Both figures in one line."""
        figures = f"{self.reduced.ndcg.mean:.4f} in {self.precision}, {self.float32.ndcg.mean:.4f} in float32"
        return f"nDCG@{self.at_k} {figures}; {self.asked}"

    @property
    def rows_by_name(self) -> list[tuple[str, ModeQuality]]:
        """Rows of a table of the measures: name and values."""
        over = f"{self.rows:,} rows"
        return [
            (f"{self.precision}, as searched", self.searched),
            (f"{self.precision}, {over}", self.reduced),
            (f"float32, {over}", self.float32),
            (f"{self.precision} minus float32", self.difference),
        ]
