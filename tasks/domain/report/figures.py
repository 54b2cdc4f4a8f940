"""The figures of a report beyond counts: the work of each rank, cost, the previous run, and sample rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tasks.domain.job.credentials import without_credentials
from tasks.domain.job.gate import SearchMode
from tasks.domain.number_format import SECONDS_IN_AN_HOUR
from tasks.domain.shards.row_accounting import RowCounts
from tasks.domain.strict import ADDED_LATER, Growing, Strict
from tasks.domain.target.chunk_context import ChunkContext


def storable(text: str) -> str:
    """Return a row's text in a form that a report may store: encodable as UTF-8, without credentials in URIs."""
    return without_credentials(text).encode("utf-8", "replace").decode()


RedactedText = Annotated[str, AfterValidator(storable)]


class RankWork(Growing):
    """The work of one rank in this run. Seconds are its own; tokenising and writing overlap with encoding."""

    rank: int = Field(ge=0)
    host: str = Field("", description="The rank's host; empty: the flow's machine.")
    parts: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)
    bytes: int = Field(0, ge=0, description="Bytes of its parts in the checkpoint.")
    padded: int = Field(0, ge=0, description="Tokens that its model processed, with padding; 0: images.")
    halved: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Batches that did not fit into its memory and were halved.")
    tokenize_seconds: float = Field(0.0, ge=0)
    encode_seconds: float = Field(0.0, ge=0)
    write_seconds: float = Field(0.0, ge=0)


class DeviceWork(Strict):
    """The work of one device of the flow's machine while rows were encoded: a GPU, or all CPUs together."""

    host: str
    name: str = Field(description="The model; for CPUs with the usable cores.")
    utilization: float | None = Field(None, ge=0, le=1, description="Mean utilisation while encoding; None: never sampled.")
    memory_bytes: int = Field(0, ge=0, description="Peak memory in use on a GPU; 0: CPUs.")
    rows_per_second: float | None = None
    tokens_per_second: float | None = None


class Cost(Strict):
    """Time and cost of the whole run, from start to proof, for the rows that it encoded; None if it encoded none or has no price."""

    hours: float = Field(ge=0)
    rows_per_hour: float | None = None
    tokens_per_hour: float | None = None
    dollars_per_hour: float | None = Field(None, description="From report.price_per_hour.")
    dollars: float | None = None
    rows_per_dollar: float | None = None
    tokens_per_dollar: float | None = None

    @property
    def dollars_per_million_rows(self) -> float | None:
        return 1e6 / self.rows_per_dollar if self.rows_per_dollar else None


def cost_of(*, rows: int, tokens: int, seconds: float, price_per_hour: float | None) -> Cost:
    """Return rows and tokens per hour and, with a price, per dollar."""
    hours = seconds / SECONDS_IN_AN_HOUR
    dollars = None if price_per_hour is None else hours * price_per_hour
    return Cost(
        hours=hours,
        rows_per_hour=_per(rows, hours),
        tokens_per_hour=_per(tokens, hours),
        dollars_per_hour=price_per_hour,
        dollars=dollars,
        rows_per_dollar=_per(rows, dollars),
        tokens_per_dollar=_per(tokens, dollars),
    )


def _per(count: int, of: float | None) -> float | None:
    return count / of if count and of else None


class EarlierRun(Strict):
    """The previous run with a report of this corpus and encoder."""

    run: str
    started: datetime = Field(description="UTC.")
    rows: RowCounts
    seconds: float = Field(ge=0, description="From start to proof.")
    rows_per_second: float | None = Field(None, description="While encoding; None if nothing was encoded.")
    verified: bool


class _StoredReport(BaseModel):
    """The fields of a report.json that a comparison needs, in every version."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    started: datetime
    finished: datetime
    rows: dict[str, int]
    seconds: dict[str, float] = {}
    verified: bool = False


def earlier_run(document: Mapping[str, Any]) -> EarlierRun:
    """Read the run of a report.json.

    Raises:
        ValueError: the document is not a report.
    """
    report = _StoredReport.model_validate(document)
    rows = RowCounts(**{name: report.rows.get(name, 0) for name in RowCounts.model_fields})
    encoding = report.seconds.get("encode")
    return EarlierRun(
        run=report.run,
        started=report.started,
        rows=rows,
        seconds=max((report.finished - report.started).total_seconds(), 0.0),
        rows_per_second=rows.embedded / encoding if rows.embedded and encoding else None,
        verified=report.verified,
    )


class PointGroup(Strict):
    """Sampled rows with the same value of a field, in two dimensions."""

    name: RedactedText
    points: tuple[tuple[float, float], ...]


class Projection(Strict):
    """A sample of the vectors, projected onto its first two principal components."""

    method: Literal["PCA"] = "PCA"
    rows: int = Field(ge=0, description="Rows in the sample.")
    kept: tuple[float, float] = Field(description="Share of the sample's variance along each component, 0 to 1.")
    field: str | None = Field(None, description="The metadata field that groups the rows; None: none is suitable.")
    groups: tuple[PointGroup, ...] = Field(description="The largest first; values without a group of their own form the last one.")


def _storable_passage(passage: ChunkContext) -> ChunkContext:
    return passage.model_copy(update={name: storable(getattr(passage, name)) for name in ("document", "before", "after")})


class ExampleHit(Strict):
    """One hit of an example search."""

    id: RedactedText
    score: float
    text: RedactedText = Field("", description="The beginning of the text.")
    fields: dict[str, RedactedText] = Field(default_factory=dict, description="Metadata, the beginning of each value.")
    passage: Annotated[ChunkContext, AfterValidator(_storable_passage)] | None = Field(
        None, description="For chunks: the text's place in its document."
    )


class Example(Strict):
    """A reproducible example search."""

    kind: Literal["row", "question"] = Field(description="row: for rows similar to this one. question: one of the gate's.")
    mode: SearchMode = Field("dense", description="Search by vectors or by words.")
    asked: RedactedText = Field(description="The row's key, or the question.")
    text: RedactedText = Field("", description="The beginning of the row's text.")
    hits: tuple[ExampleHit, ...] = Field(description="The nearest first, without the row itself.")
