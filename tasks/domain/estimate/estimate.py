"""The estimated time, storage and cost of a run, and the comparison with the actual figures."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from tasks.domain.estimate.intervals import Range, exactly, the_longer
from tasks.domain.estimate.rates import Rate
from tasks.domain.number_format import SECONDS_IN_AN_HOUR
from tasks.domain.strict import Strict

CLOSE = 0.01  # relative deviation within which an estimate counts as right, even if its range was narrower
NO_RATE = "nothing was encoded with this encoder on such a machine yet; `kitestring run JOB --dry-run` measures it on a sample"


class Sampled(Strict):
    """The sample of an estimate."""

    rows: int = Field(ge=0)
    places: int = Field(ge=0, description="Places at equal distances in the corpus.")
    bytes: int = Field(ge=0, description="Bytes read, uncompressed.")
    tokenizer: str = Field("", description="The counter of tokens; empty: none, the rows are pictures or their tokens a guess.")


class ChunksExpected(Strict):
    """The expected chunks of documents that are split."""

    rows: Range = Field(description="Chunks to encode.")
    overlap_tokens: Range = Field(description="Tokens that are in two chunks of a document.")
    per_document: dict[int, int] = Field(description="Sampled documents by their number of chunks: a bin's upper edge to its count.")


class Estimate(Strict):
    """The remaining work of a run, without sealed and loaded shards. None: unknown, and a note says why."""

    rows: Range = Field(description="Rows to encode, including rows that may turn out bad or duplicate.")
    at_most: bool = Field(False, description="Earlier seals may hold vectors of some or all of those rows, which are then not encoded.")
    tokens: Range | None = Field(None, description="Tokens of those rows after truncation by the model.")
    chunks: ChunksExpected | None = Field(None, description="None: documents are not split.")
    content_bytes: Range | None = Field(None, description="Bytes of the texts or pictures of those rows.")
    rows_to_load: Range
    seconds: Range | None = Field(None, description="From the start of a run to its proof.")
    checkpoint_bytes: Range | None = Field(None, description="Bytes that the run adds, without report pages.")
    target_bytes: Range | None = Field(None, description="Bytes of the rows to load in Milvus, including the index.")
    price_per_hour: float | None = Field(None, description="Dollars, from report.price_per_hour.")
    cost: Range | None = Field(None, description="Dollars; None also if there is no price.")
    rate: Rate | None = None
    sample: Sampled
    notes: tuple[str, ...] = ()


def seconds_of(amount: Range, *, rows_to_load: Range, rate: Rate) -> Range:
    """Return the duration of a run from its start to its proof.

    The sum of start-up, if there is something to encode; encoding (amount over rate) or loading, whichever takes longer,
    since they run concurrently; and the rest. Each as a range.
    """
    loading = rows_to_load / rate.loaded_per_second if rate.loaded_per_second else exactly(0)
    startup = rate.startup_seconds if amount.high else exactly(0)
    return startup + the_longer(amount / rate.per_second, loading) + rate.rest_seconds


def dollars_of(seconds: Range | None, price_per_hour: float | None) -> Range | None:
    """Return the cost in dollars; None if duration or price is unknown."""
    return None if seconds is None or price_per_hour is None else seconds * (price_per_hour / SECONDS_IN_AN_HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOutcome:
    """One figure of an estimate and its actual value."""

    name: str
    estimate: Range
    actual: float

    @property
    def off(self) -> float | None:
        """Relative deviation, actual / expected - 1: 0.1 if the actual value is a tenth higher; None if 0 was expected."""
        return self.actual / self.estimate.expected - 1 if self.estimate.expected else None

    @property
    def within(self) -> bool:
        """Whether the actual value is in the range, or within CLOSE of the expected one: few sampled places give too narrow a range."""
        return self.actual in self.estimate or (self.off is not None and abs(self.off) <= CLOSE)


def compare_estimate(estimate: Estimate, *, rows: int, tokens: int, seconds: float, checkpoint_bytes: int) -> list[EstimateOutcome]:
    """Compare an estimate with the run, for the figures that both have.

    Args:
        estimate: the estimate from the start of the run.
        rows: rows read of the shards that had to be encoded.
        tokens: tokens that the run encoded.
        seconds: duration from the run's start to its proof.
        checkpoint_bytes: bytes of the parts that it sealed.
    """
    price = estimate.price_per_hour
    dollars = None if price is None else seconds * price / SECONDS_IN_AN_HOUR
    figures: list[tuple[str, Range | None, float | None]] = [
        ("rows", estimate.rows, rows),
        ("tokens", estimate.tokens, tokens),
        ("seconds", estimate.seconds, seconds),
        ("checkpoint bytes", estimate.checkpoint_bytes, checkpoint_bytes),
        ("cost", estimate.cost, dollars),
    ]
    return [
        EstimateOutcome(name=name, estimate=expected, actual=actual)
        for name, expected, actual in figures
        if expected is not None and actual is not None
    ]
