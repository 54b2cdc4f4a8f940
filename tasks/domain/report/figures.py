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
    """Text of a row as a report may keep it: what UTF-8 cannot hold is replaced, credentials in URIs are left out."""
    return without_credentials(text).encode("utf-8", "replace").decode()


RedactedText = Annotated[str, AfterValidator(storable)]


class RankWork(Growing):
    """The work of one rank in this run. Seconds are its own; tokenising and writing overlap with encoding."""

    rank: int = Field(ge=0)
    host: str = Field("", description="The host that it was on; empty: the flow's machine.")
    parts: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)
    bytes: int = Field(0, ge=0, description="Of its parts in the checkpoint.")
    padded: int = Field(0, ge=0, description="Tokens that its model was given, padding counted; 0: images.")
    halved: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Batches that did not fit into its memory and were halved.")
    tokenize_seconds: float = Field(0.0, ge=0)
    encode_seconds: float = Field(0.0, ge=0)
    write_seconds: float = Field(0.0, ge=0)


class DeviceWork(Strict):
    """What one device of the flow's machine did while rows were encoded: a GPU, or all of the CPUs together."""

    host: str
    name: str = Field(description="The model; for CPUs with the cores that may be used.")
    utilization: float | None = Field(None, ge=0, le=1, description="Mean share of the time, while encoding; None: not seen once.")
    memory_bytes: int = Field(0, ge=0, description="Most of a GPU's memory that was in use; 0: CPUs.")
    rows_per_second: float | None = None
    tokens_per_second: float | None = None


class Cost(Strict):
    """What the whole run took, from start to proof, for the rows that it encoded; None where it encoded none or no price is given."""

    hours: float = Field(ge=0)
    rows_per_hour: float | None = None
    tokens_per_hour: float | None = None
    dollars_per_hour: float | None = Field(None, description="As report.price_per_hour says.")
    dollars: float | None = None
    rows_per_dollar: float | None = None
    tokens_per_dollar: float | None = None

    @property
    def dollars_per_million_rows(self) -> float | None:
        return 1e6 / self.rows_per_dollar if self.rows_per_dollar else None


def cost_of(*, rows: int, tokens: int, seconds: float, price_per_hour: float | None) -> Cost:
    """Rows and tokens by the hour and, with a price, by the dollar."""
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
    """The run of this corpus and encoder that reported last before this one."""

    run: str
    started: datetime = Field(description="UTC.")
    rows: RowCounts
    seconds: float = Field(ge=0, description="From start to proof.")
    rows_per_second: float | None = Field(None, description="While encoding; None where nothing was encoded.")
    verified: bool


class _Told(BaseModel):
    """As much of a report.json as a comparison needs, whichever version wrote it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    started: datetime
    finished: datetime
    rows: dict[str, int]
    seconds: dict[str, float] = {}
    verified: bool = False


def earlier_run(document: Mapping[str, Any]) -> EarlierRun:
    """What a report.json says of its run.

    Raises:
        ValueError: it is not one.
    """
    told = _Told.model_validate(document)
    rows = RowCounts(**{name: told.rows.get(name, 0) for name in RowCounts.model_fields})
    encoding = told.seconds.get("encode")
    return EarlierRun(
        run=told.run,
        started=told.started,
        rows=rows,
        seconds=max((told.finished - told.started).total_seconds(), 0.0),
        rows_per_second=rows.embedded / encoding if rows.embedded and encoding else None,
        verified=told.verified,
    )


class PointGroup(Strict):
    """Sampled rows that have one value in common, in two dimensions."""

    name: RedactedText
    points: tuple[tuple[float, float], ...]


class Projection(Strict):
    """A sample of the vectors, projected to the two directions in which they differ most."""

    method: Literal["PCA"] = "PCA"
    rows: int = Field(ge=0, description="Rows in the sample.")
    kept: tuple[float, float] = Field(description="Share of the sample's variance along each direction, 0 to 1.")
    field: str | None = Field(None, description="The metadata field whose values make the groups; None: there is no fitting one.")
    groups: tuple[PointGroup, ...] = Field(description="The largest first; what does not fit is one last group.")


def _storable_passage(passage: ChunkContext) -> ChunkContext:
    return passage.model_copy(update={name: storable(getattr(passage, name)) for name in ("document", "before", "after")})


class ExampleHit(Strict):
    """One answer to an example search."""

    id: RedactedText
    score: float
    text: RedactedText = Field("", description="Its beginning.")
    fields: dict[str, RedactedText] = Field(default_factory=dict, description="Metadata, each value's beginning.")
    passage: Annotated[ChunkContext, AfterValidator(_storable_passage)] | None = Field(
        None, description="Where the text is in its document, for chunks."
    )


class Example(Strict):
    """A search that anybody can make again."""

    kind: Literal["row", "question"] = Field(description="row: for rows like this one. question: one of the gate's.")
    mode: SearchMode = Field("dense", description="Searched by meaning or by words.")
    asked: RedactedText = Field(description="The row's key, or the question.")
    text: RedactedText = Field("", description="The row's own text, its beginning.")
    hits: tuple[ExampleHit, ...] = Field(description="The nearest first, without the row itself.")
