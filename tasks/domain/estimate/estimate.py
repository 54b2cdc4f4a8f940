"""The estimated time, storage and cost of a run, and the comparison with the actual figures."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from tasks.domain.estimate.intervals import Range, exactly, the_longer
from tasks.domain.estimate.rates import Rate
from tasks.domain.number_format import SECONDS_IN_AN_HOUR
from tasks.domain.strict import Strict

CLOSE = 0.01  # an estimate this near is right, however narrow its range was
NO_RATE = "nothing was encoded with this encoder on such a machine yet; `kitestring run JOB --dry-run` measures it on a sample"


class Sampled(Strict):
    """What an estimate has looked at."""

    rows: int = Field(ge=0)
    places: int = Field(ge=0, description="At equal distances through the corpus.")
    bytes: int = Field(ge=0, description="Read, unpacked.")
    tokenizer: str = Field("", description="What counted tokens; empty: nothing did, the rows are pictures or their tokens a guess.")


class ChunksExpected(Strict):
    """What documents will become, where they are split."""

    rows: Range = Field(description="Chunks to encode.")
    overlap_tokens: Range = Field(description="Tokens that are in two chunks of a document.")
    per_document: dict[int, int] = Field(description="Sampled documents by their number of chunks: a bin's upper edge to its count.")


class Estimate(Strict):
    """The remaining work of a run; sealed and loaded shards do not count. None: unknown, and a note says why."""

    rows: Range = Field(description="To encode, those that may turn out bad or duplicate included.")
    at_most: bool = Field(
        False, description="Earlier seals may hold vectors of some of those rows, or of all, which are not encoded again."
    )
    tokens: Range | None = Field(None, description="Of those rows, as the model cuts them.")
    chunks: ChunksExpected | None = Field(None, description="None: documents are not split.")
    content_bytes: Range | None = Field(None, description="Texts or pictures of those rows.")
    rows_to_load: Range
    seconds: Range | None = Field(None, description="From the start of a run to its proof.")
    checkpoint_bytes: Range | None = Field(None, description="That the run adds, report pages left out.")
    target_bytes: Range | None = Field(None, description="That the rows to load take in Milvus, index included.")
    price_per_hour: float | None = Field(None, description="Dollars, as report.price_per_hour says.")
    cost: Range | None = Field(None, description="Dollars; None also where no price is given.")
    rate: Rate | None = None
    sample: Sampled
    notes: tuple[str, ...] = ()


def seconds_of(amount: Range, *, rows_to_load: Range, rate: Rate) -> Range:
    """How long a run takes from its start to its proof.

    Start-up where there is something to encode; then encoding (amount over rate) or loading, whichever lasts longer,
    since they go on at the same time; then the rest. Each from its low to its high end.
    """
    loading = rows_to_load / rate.loaded_per_second if rate.loaded_per_second else exactly(0)
    startup = rate.startup_seconds if amount.high else exactly(0)
    return startup + the_longer(amount / rate.per_second, loading) + rate.rest_seconds


def dollars_of(seconds: Range | None, price_per_hour: float | None) -> Range | None:
    """Dollars; None where either is not known."""
    return None if seconds is None or price_per_hour is None else seconds * (price_per_hour / SECONDS_IN_AN_HOUR)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateOutcome:
    """One figure of an estimate and its actual value."""

    name: str
    estimate: Range
    actual: float

    @property
    def off(self) -> float | None:
        """Actual over expected, less one: 0.1 where it was a tenth more; None where nothing was expected."""
        return self.actual / self.estimate.expected - 1 if self.estimate.expected else None

    @property
    def within(self) -> bool:
        """In its range, or within a hundredth of what was expected: a sample of few places gives a range that is too narrow."""
        return self.actual in self.estimate or (self.off is not None and abs(self.off) <= CLOSE)


def hold(estimate: Estimate, *, rows: int, tokens: int, seconds: float, checkpoint_bytes: int) -> list[EstimateOutcome]:
    """The comparison of an estimate with a run, for the figures that both have.

    Args:
        estimate: made when the run began.
        rows: read of the shards that had to be encoded.
        tokens: encoded by the run.
        seconds: from its start to its proof.
        checkpoint_bytes: of the parts that it sealed.
    """
    price = estimate.price_per_hour
    dollars = None if price is None else seconds * price / SECONDS_IN_AN_HOUR
    found: list[tuple[str, Range | None, float | None]] = [
        ("rows", estimate.rows, rows),
        ("tokens", estimate.tokens, tokens),
        ("seconds", estimate.seconds, seconds),
        ("checkpoint bytes", estimate.checkpoint_bytes, checkpoint_bytes),
        ("cost", estimate.cost, dollars),
    ]
    return [EstimateOutcome(name=n, estimate=told, actual=actual) for n, told, actual in found if told is not None and actual is not None]
