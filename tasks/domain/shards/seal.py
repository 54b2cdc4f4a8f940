"""Parts, seals and the ledger: the only memory of a run, all of it immutable once written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue
from pydantic_core import to_jsonable_python

from tasks.domain.digest import digest
from tasks.domain.job.credentials import without_credentials
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.shard import Shard
from tasks.domain.strict import ADDED_LATER, Growing, Strict


class Quarantined(Strict):
    """A quarantined row."""

    row: int = Field(description="Position in the shard, from 0.")
    id: str | None = Field(description="Its key, if it has one.")
    reason: Annotated[str, AfterValidator(without_credentials)] = Field(
        description="Why, in words; the part before ':' is the class that reports count by."
    )


class EncodeStats(Strict):
    """What encoding some rows took. Seconds are wall-clock seconds of one rank."""

    tokens: int = 0
    truncated: int = Field(0, description="Rows cut at the model's longest input.")
    tokens_cut: int = Field(0, description="Tokens lost by that.")
    tokenize_seconds: float = 0.0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0
    lengths: dict[int, int] = Field(default_factory=dict, description="Rows by token length, in bins: the bin's upper edge to its count.")
    backend: str = Field("", description="What ran the model.")

    def __add__(self, other: EncodeStats) -> EncodeStats:
        lengths = dict(self.lengths)
        for edge, count in other.lengths.items():
            lengths[edge] = lengths.get(edge, 0) + count
        return EncodeStats(
            tokens=self.tokens + other.tokens,
            truncated=self.truncated + other.truncated,
            tokens_cut=self.tokens_cut + other.tokens_cut,
            tokenize_seconds=self.tokenize_seconds + other.tokenize_seconds,
            encode_seconds=self.encode_seconds + other.encode_seconds,
            write_seconds=self.write_seconds + other.write_seconds,
            lengths=lengths,
            backend=" and ".join(sorted({*self.backend.split(" and "), *other.backend.split(" and ")} - {""})),
        )


class Part(Growing):
    """One Parquet object: the vectors of source rows [first, stop) of a shard, without quarantined rows and duplicates."""

    key: str = Field(description="Its key in the checkpoint store, from the store's root.")
    first: int
    stop: int
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    quarantined: tuple[Quarantined, ...] = Field((), description="Rows that the encoder could not embed.")
    stats: EncodeStats = EncodeStats()
    amendment: int = Field(0, description="Number of the amendment that brought it, in an effective seal; 0: the seal itself.")
    reused: Annotated[int, ADDED_LATER] = Field(
        0, ge=0, description="Rows of it whose vectors were taken over from parts of earlier seals."
    )
    documents: Annotated[int | None, ADDED_LATER] = Field(None, ge=0, description="Documents that begin in it, where its rows are chunks.")

    @property
    def source_rows(self) -> int:
        """Rows of the source that begin in it."""
        return self.rows if self.documents is None else self.documents


class ChunkCounts(Strict):
    """What documents became, where a seal's rows are chunks of them."""

    rows: int = Field(ge=0, description="Chunks in the parts: rows of the collection.")
    per_document: dict[int, int] = Field(
        default_factory=dict, description="Documents by their number of chunks, in bins: upper edge to count."
    )
    overlap_tokens: int = Field(0, description="Tokens that are in two chunks of a document, about.")

    def __add__(self, other: ChunkCounts) -> ChunkCounts:
        counts = Counter(self.per_document) + Counter(other.per_document)
        return ChunkCounts(
            rows=self.rows + other.rows, per_document=dict(counts), overlap_tokens=self.overlap_tokens + other.overlap_tokens
        )


def format_chunks(chunks: ChunkCounts) -> str:
    """How many chunks there are, of how many documents, and what overlap costs."""
    documents = sum(chunks.per_document.values())
    most = max(chunks.per_document, default=0)
    overlap = f"; {chunks.overlap_tokens:,} tokens are in two chunks" if chunks.overlap_tokens else ""
    return f"{chunks.rows:,} of {documents:,} documents, up to {most:,} each{overlap}"


def chunk_bins(chunks: Iterable[int]) -> dict[int, int]:
    """Documents by how many chunks each has, in bins of twice the size: upper edge to count."""
    return dict(Counter(1 << max(0, number - 1).bit_length() for number in chunks))


class Seal(Growing):
    """The commit of a shard. A part that no seal references is garbage. Stored with a checksum from format 2 on; format 3 has findings,
    digests or chunks, format 4 rows of a cache.
    """

    format_version: Literal[1, 2, 3, 4] = 2
    shard: str
    name: str = Field(description="The shard's name for people.")
    group: str = Field(description="The file whose newer shards replace this one.")
    run: str
    attempt: str
    dim: int
    source_rows: int = Field(ge=0, description="Rows that the reader saw.")
    embedded: int = Field(ge=0)
    duplicates: int = Field(ge=0)
    quarantined: tuple[Quarantined, ...]
    parts: tuple[Part, ...]
    seconds: float = Field(description="From the first read to the seal.")
    sealed_at: str = Field(description="UTC, ISO 8601.")
    cached: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Rows of `embedded` whose vectors came from the cache.")
    found: Annotated[tuple[Finding, ...], ADDED_LATER] = Field(
        (), description="What was seen while its rows were read, and is no reason to quarantine one."
    )
    digests: Annotated[str, ADDED_LATER] = Field("", description="SHA-256 of the file of its rows' content digests; empty: it has none.")
    chunks: Annotated[ChunkCounts | None, ADDED_LATER] = Field(
        None, description="Where the source's rows are documents that were split; None: each is a row."
    )

    @property
    def rows(self) -> int:
        """Rows that it brings to a collection."""
        return self.embedded if self.chunks is None else self.chunks.rows

    @property
    def digest(self) -> str:
        """What the ledger holds a load against: a seal that was amended since is another one.

        Ledgers, owners, proofs and files of keys name it, so it never changes: a field that a later version adds counts only where
        it is not at its default.
        """
        return digest(_as_first_written(self))

    @property
    def stats(self) -> EncodeStats:
        return sum((part.stats for part in self.parts), EncodeStats())


LoadState = Literal["loading", "loaded", "doubted", "outdated"]


class Loaded(Growing):
    """The ledger entry of one shard in one collection: what was loaded, and whether it is still valid.

    Every state but `loaded` means that the shard has to be loaded again before anybody relies on it; none of them says that
    the collection is free of its rows.
    """

    format_version: Literal[1, 2, 3] = Field(2, description="3: with `vectors_kept`.")
    shard: str
    state: LoadState = Field(
        "loaded",
        description="loading: the first row was about to be sent. loaded: every row was acknowledged. doubted: a proof found it wrong."
        " outdated: it was not in the plan of a later run, whose rows may have taken keys of it over.",
    )
    group: str = Field(description="The name of its first file below the root.")
    place: str | None = Field(None, description="Where its first file stood: a path or a URI. None: written before places were kept.")
    files: int = Field(0, ge=0, description="How many files it spans; 0: written before they were counted.")
    rows: int
    seal: str = Field(description="Digest of the seal that was loaded: a later amendment is a different one.")
    cut: int = Field(0, description="Texts of which the collection holds the beginning only; their vectors are of the whole.")
    vectors_kept: Annotated[int, ADDED_LATER] = Field(
        0,
        ge=0,
        description="Rows that were sent without their vector, since the collection held it: what was then written at the same time may have replaced it.",
    )
    run: str
    seconds: float
    loaded_at: str

    @property
    def root(self) -> str | None:
        """What the name of its first file is below; None where that was not kept."""
        return (self.place.removesuffix(self.group).rstrip("/") or "/") if self.place is not None else None


def intent_of(shard: Shard, seal: Seal, *, run: str, at: str) -> Loaded:
    """The intent: written before the first row of a shard is sent to a collection."""
    return Loaded(
        shard=seal.shard,
        state="loading",
        group=seal.group,
        place=shard.place,
        files=len(shard.span.files),
        rows=seal.rows,
        seal=seal.digest,
        run=run,
        seconds=0.0,
        loaded_at=at,
    )


class Standing(Strict):
    """Which collection is at an address, by the name of its ledger."""

    format_version: Literal[1] = 1
    target: str


class Root(Strict):
    """A place below which rows of a collection were read."""

    format_version: Literal[1] = 1
    root: str


# The fields that a seal and what is in it had at first. What is added later needs a default, and no entry here.
_AT_FIRST = {
    Seal: frozenset(
        [
            "format_version",
            "shard",
            "name",
            "group",
            "run",
            "attempt",
            "dim",
            "source_rows",
            "embedded",
            "duplicates",
            "quarantined",
            "parts",
            "seconds",
            "sealed_at",
        ]
    ),
    Part: frozenset(["key", "first", "stop", "rows", "bytes", "sha256", "quarantined", "stats", "amendment"]),
    Quarantined: frozenset(("row", "id", "reason")),
    EncodeStats: frozenset(
        ["tokens", "truncated", "tokens_cut", "tokenize_seconds", "encode_seconds", "write_seconds", "lengths", "backend"]
    ),
}


def _as_first_written(seal: Seal) -> dict[str, JsonValue]:
    """The seal as JSON, without the fields of later versions that are at their defaults."""
    dumped: dict[str, Any] = seal.model_dump(mode="json")
    _leave_out(dumped, type(seal), _AT_FIRST[Seal])
    for part in dumped["parts"]:
        _leave_out(part, Part, _AT_FIRST[Part])
        _leave_out(part["stats"], EncodeStats, _AT_FIRST[EncodeStats])
    for row in (*dumped["quarantined"], *(row for part in dumped["parts"] for row in part["quarantined"])):
        _leave_out(row, Quarantined, _AT_FIRST[Quarantined])
    return dumped


def _leave_out(dumped: dict[str, Any], kind: type[Strict], first: frozenset[str]) -> None:
    for name in dumped.keys() - first:
        if dumped[name] == to_jsonable_python(kind.model_fields[name].get_default(call_default_factory=True)):
            del dumped[name]


class SealSetDigest:
    """A digest of a set of seals, whatever their order; memory does not grow with their number."""

    def __init__(self) -> None:
        self._mixed = 0
        self.count = 0

    def add(self, seal: Seal) -> Seal:
        """Take one in; gives it back."""
        self._mixed ^= int(seal.digest, 16)
        self.count += 1
        return seal

    @property
    def digest(self) -> str:
        return f"{self._mixed:032x}"
