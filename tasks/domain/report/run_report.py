"""The report of a run: `report.json`, and its summary in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity
from tasks.domain.estimate.estimate import Estimate, EstimateOutcome, compare_estimate
from tasks.domain.job.credentials import without_credentials
from tasks.domain.report.figures import Cost, DeviceWork, EarlierRun, Example, Projection, RankWork, RedactedText
from tasks.domain.report.hosts import HostWork
from tasks.domain.report.metadata_alone import MetadataAlone
from tasks.domain.shards.row_accounting import RowCounts, ShardCounts
from tasks.domain.shards.seal import ChunkCounts
from tasks.domain.shards.unread_files import UnreadFiles
from tasks.domain.strict import Strict
from tasks.domain.target.retrieval_quality import Evaluation, PrecisionQuality

STAGES = ("plan", "start-up", "encode", "load", "verify")
QUARANTINE_SAMPLES = 20


def without_user(value: JsonValue) -> JsonValue:
    """Remove `user:password@` from any URI in a value, because settings are shown to people."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, list):
        return [without_user(item) for item in value]
    if isinstance(value, dict):
        return {key: without_user(item) for key, item in value.items()}
    return value


def _settings_without_user(settings: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {key: without_user(value) for key, value in settings.items()}


class TargetNamed(Strict):
    """The target of a run; the URI never contains a user or a password."""

    uri: Annotated[str, AfterValidator(without_credentials)]
    collection: str = Field(description="The collection of this encoder.")
    alias: str = Field(description="The name that searches use.")


class Progress(Strict):
    """The progress of this run at one moment; counts are totals since its start."""

    seconds: float = Field(ge=0, description="Since the run began.")
    rows: int = Field(ge=0)
    tokens: int = Field(0, ge=0)
    by_rank: tuple[int, ...] = Field((), description="Rows of each rank, rank 0 first; empty if a cluster encodes.")
    by_host: tuple[int, ...] = Field((), description="Rows of each host of a cluster, in the order of `hosts`; the last: all others.")


class ShardTime(Strict):
    """The encoding time of one shard: seconds summed over the ranks that encoded pieces of it."""

    name: str
    rows: int = Field(ge=0)
    seconds: float = Field(ge=0)

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0


class SetAside(Strict):
    """A sampled row of the quarantine."""

    shard: str = Field(description="The shard's name for people.")
    row: int
    id: str | None
    reason: str


class FailedShard(Strict):
    """A shard that failed permanently."""

    name: str
    error: str
    row: int | None = None


class RunReport(Strict):
    """The figures of a run. Another version of Kitestring may have written them, so any list may be empty."""

    format_version: Literal[1] = 1
    run: str
    corpus: str
    encoder: EncoderIdentity
    facts: EncoderFacts | None = Field(None, description="None: no encoder was started, because nothing had to be encoded.")
    target: TargetNamed
    rows: RowCounts = RowCounts()
    shards: ShardCounts = ShardCounts()
    verified: bool = False
    failed: RedactedText = Field("", description="Why the run failed; empty: it did not.")
    cure: str = Field("", description="What to do about the failure.")
    over_quarantine: bool = Field(False, description="More rows are quarantined than failures.max_quarantined allows.")
    reasons: tuple[str, ...] = Field((), description="Result of the verification: the differences, or what was compared.")
    proved: str = Field("", description="What the proof compared, as a phrase without a full stop; empty if not verified.")
    exact: bool = Field(False, description="Whether the collection holds the sealed rows and no others.")
    started: datetime = Field(description="UTC.")
    finished: datetime = Field(description="UTC.")
    seconds: dict[str, float] = Field(default_factory=dict, description=f"By stage ({', '.join(STAGES)}); stages overlap.")
    startup: dict[str, float] = Field(default_factory=dict, description="Seconds that starting the encoder took, by step.")
    progress: tuple[Progress, ...] = Field((), description="In the order of time.")
    slowest: tuple[ShardTime, ...] = Field((), description="The slowest first.")
    quarantine: dict[str, int] = Field(default_factory=dict, description="Rows by class of reason.")
    set_aside: tuple[SetAside, ...] = Field((), max_length=QUARANTINE_SAMPLES)
    truncated: int = Field(0, description="Rows truncated at the model's maximum input length.")
    tokens_cut: int = Field(0, description="Tokens lost by truncation.")
    texts_cut: int = Field(0, description="Texts that this run loaded and of which the collection holds only the beginning.")
    metadata_alone: MetadataAlone | None = Field(None, description="Rows loaded by this run without their vectors; None: none.")
    tokens: int = Field(0, description="Tokens encoded by this run.")
    backend: str = Field("", description="The backends of the encoder, from the seals.")
    lengths: dict[int, int] = Field(default_factory=dict, description="Rows by token length: a bin's upper edge to its count.")
    chunks: ChunkCounts | None = Field(None, description="The chunks of documents; None: documents are not split.")
    failures: tuple[FailedShard, ...] = ()
    damaged: tuple[FailedShard, ...] = Field(
        (), description="Shards with a missing or changed part: encoded again, or to be encoded again by the next run."
    )
    notes: tuple[RedactedText, ...] = Field(
        (), description="Decisions of the run: the gate's figures, the collection that the alias points to."
    )
    unread: tuple[UnreadFiles, ...] = Field((), description="Files of the source that are not read, by reason.")
    refusals: tuple[RedactedText, ...] = Field((), description="What the run refused to do, and what to do about it.")
    gate: Evaluation | None = Field(None, description="The gate's figures of the new collection; None: the gate was not evaluated.")
    precision_quality: PrecisionQuality | None = Field(
        None,
        description="nDCG of vectors in int8 or float8 beside that of float32, on the gate's questions; None: other precision, no gate, or no result.",
    )
    adopted: int = Field(0, description="Intact parts of killed or concurrent runs that were reused.")
    ranks: tuple[RankWork, ...] = Field((), description="By rank number; empty if nothing was encoded.")
    hosts: tuple[HostWork, ...] = Field((), description="Hosts of a cluster, in the order of joining.")
    devices: tuple[DeviceWork, ...] = Field(
        (), description="Devices of the flow's machine; empty if a cluster or a served model encoded, or nothing was encoded."
    )
    cost: Cost | None = None
    estimate: Estimate | None = Field(None, description="From the start of the run; None: there was nothing to do, or it failed.")
    before: EarlierRun | None = Field(None, description="The run to compare with; None: this is the first.")
    projection: Projection | None = Field(None, description="Projection of a sample of the vectors.")
    examples: tuple[Example, ...] = Field((), description="Searches with their hits.")
    left_out: dict[str, RedactedText] = Field(default_factory=dict, description="Missing sections of the page, with the reason.")
    peak_memory: dict[str, int] = Field(default_factory=dict, description="Peak resident bytes by process, and memory of GPUs.")
    settings: Annotated[dict[str, JsonValue], AfterValidator(_settings_without_user)] = Field(default_factory=dict, description="The job.")
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of Kitestring and its libraries.")
    page: str = Field("", description="The place of report.html.")
    code: str = Field("", description="Python code for applications to search the collection.")

    @property
    def rows_made(self) -> int:
        """Rows with a vector of any origin; chunks, if documents are split."""
        return self.chunks.rows if self.chunks else self.rows.embedded + self.rows.reused + self.rows.cached

    @property
    def complete(self) -> bool:
        """Whether every shard of the plan is in the collection."""
        return not self.shards.failed and self.shards.loaded >= self.shards.planned

    @property
    def wall_seconds(self) -> float:
        return max((self.finished - self.started).total_seconds(), 0.0)

    @property
    def rows_per_second(self) -> float | None:
        """Rows per second while encoding; None if nothing was encoded or timed."""
        return _rate(self.rows.embedded, self.seconds.get("encode"))

    @property
    def estimate_outcomes(self) -> list[EstimateOutcome]:
        """The estimate compared with the actual figures; empty if there was none."""
        if self.estimate is None:
            return []
        sealed = sum(rank.bytes for rank in self.ranks)
        return compare_estimate(
            self.estimate, rows=self.rows.embedded, tokens=self.tokens, seconds=self.wall_seconds, checkpoint_bytes=sealed
        )

    @property
    def padding(self) -> float | None:
        """The share of padding in the model's input tokens, 0 to 1; None if no tokens were encoded."""
        padded = sum(rank.padded for rank in self.ranks)
        return 1 - sum(rank.tokens for rank in self.ranks) / padded if padded else None

    @property
    def tokens_per_second(self) -> float | None:
        return _rate(self.tokens, self.seconds.get("encode"))


def _rate(count: int, seconds: float | None) -> float | None:
    return count / seconds if count and seconds else None


def summary(report: RunReport) -> dict[str, object]:
    """Return the output of `run --json` and `status --json`."""
    return {
        "rows": report.rows.model_dump(),
        "shards": report.shards.model_dump(),
        "verified": report.verified,
        "proof": report.proved,
        "report": report.page,
        "notes": list(report.notes),
        "gate": report.gate.model_dump(mode="json") if report.gate else None,
        "unread": [some.model_dump() for some in report.unread],
        **({"precision_quality": report.precision_quality.model_dump(mode="json")} if report.precision_quality else {}),
        **({"chunks": report.chunks.model_dump()} if report.chunks else {}),
        **({"metadata_alone": report.metadata_alone.model_dump()} if report.metadata_alone else {}),
    }


def report_headline(report: RunReport) -> str:
    """Summarise the run in one sentence, without any text of the corpus."""
    if not report.rows.source and not report.shards.planned:
        return "The source holds no rows."
    searchable = f"{report.rows.loaded:,} of {_counted(report.rows.source, 'row')} {'is' if report.rows.loaded == 1 else 'are'} searchable"
    return f"{', '.join([searchable, *_asides(report)])}; {_verdict(report)}."


def _asides(report: RunReport) -> list[str]:
    rows, asides = report.rows, []
    if rows.quarantined:
        asides.append(f"{rows.quarantined:,} {'was' if rows.quarantined == 1 else 'were'} quarantined")
    if rows.duplicates:
        asides.append(f"{_counted(rows.duplicates, 'duplicate')} left out")
    if report.complete and rows.reused and not rows.embedded:
        asides.append("nothing had to be encoded")
    return asides


def _verdict(report: RunReport) -> str:
    if report.shards.failed:
        return f"{report.shards.failed:,} of {_counted(report.shards.planned, 'shard')} failed"
    if not report.complete:
        return f"{_counted(report.shards.planned - report.shards.loaded, 'shard')} remaining"
    if report.verified:
        return "verified, but the run failed" if report.failed else "verified"
    return f"not verified ({_counted(len(report.reasons), 'difference')} found)" if report.reasons else "not verified yet"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def over_quarantine(rows: RowCounts, max_quarantined: float) -> bool:
    """Whether the share of quarantined rows exceeds `max_quarantined`, which fails the run."""
    return rows.quarantined > max_quarantined * rows.source


def rows_wrong(rows: RowCounts, quarantine: Mapping[str, int], max_quarantined: float) -> str | None:
    """Describe a fault in the row counts in one line; None: every row is accounted for, and few enough are quarantined."""
    if rows.accounted != rows.source:
        return f"{rows.source} source rows, but {rows.accounted} accounted for"
    if over_quarantine(rows, max_quarantined):
        kinds = ", ".join(f"{reason} ({count})" for reason, count in sorted(quarantine.items(), key=lambda kind: -kind[1]))
        return f"{rows.quarantined} of {rows.source} rows were quarantined, more than failures.max_quarantined allows ({max_quarantined:g}): {kinds}"
    return None
