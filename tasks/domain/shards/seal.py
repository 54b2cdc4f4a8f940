"""Parts, seals and ledger entries: the whole persistent state of a run, immutable once written."""

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
        description="The reason, for people; the part before ':' is the class by which reports count."
    )


class EncodeStats(Strict):
    """Work and time of encoding some rows. Seconds are wall-clock seconds of one rank."""

    tokens: int = 0
    truncated: int = Field(0, description="Rows truncated at the model's maximum input length.")
    tokens_cut: int = Field(0, description="Tokens lost by truncation.")
    tokenize_seconds: float = 0.0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0
    lengths: dict[int, int] = Field(default_factory=dict, description="Rows by token length, in bins: the bin's upper edge to its count.")
    backend: str = Field("", description="The backend that ran the model.")

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

    key: str = Field(description="Its key in the checkpoint store, relative to the root.")
    first: int
    stop: int
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str
    quarantined: tuple[Quarantined, ...] = Field((), description="Rows that the encoder could not embed.")
    stats: EncodeStats = EncodeStats()
    amendment: int = Field(0, description="In an effective seal: number of the amendment that added it; 0: the seal itself.")
    reused: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Rows of it with vectors copied from parts of earlier seals.")
    documents: Annotated[int | None, ADDED_LATER] = Field(None, ge=0, description="If its rows are chunks: documents that begin in it.")

    @property
    def source_rows(self) -> int:
        """Rows of the source that begin in it."""
        return self.rows if self.documents is None else self.documents


class ChunkCounts(Strict):
    """The chunks of a seal whose rows are chunks of documents."""

    rows: int = Field(ge=0, description="Chunks in the parts: rows of the collection.")
    per_document: dict[int, int] = Field(
        default_factory=dict, description="Documents by their number of chunks, in bins: upper edge to count."
    )
    overlap_tokens: int = Field(0, description="Tokens that are in two chunks of a document, approximately.")

    def __add__(self, other: ChunkCounts) -> ChunkCounts:
        counts = Counter(self.per_document) + Counter(other.per_document)
        return ChunkCounts(
            rows=self.rows + other.rows, per_document=dict(counts), overlap_tokens=self.overlap_tokens + other.overlap_tokens
        )


def format_chunks(chunks: ChunkCounts) -> str:
    """Format the number of chunks, the number of documents, and the cost of the overlap."""
    documents = sum(chunks.per_document.values())
    most = max(chunks.per_document, default=0)
    overlap = f"; {chunks.overlap_tokens:,} tokens are in two chunks" if chunks.overlap_tokens else ""
    return f"{chunks.rows:,} of {documents:,} documents, up to {most:,} each{overlap}"


def chunk_bins(chunks: Iterable[int]) -> dict[int, int]:
    """Count documents by number of chunks, in bins that double in size: upper edge to count."""
    return dict(Counter(1 << max(0, number - 1).bit_length() for number in chunks))


class Seal(Growing):
    """The commit of a shard. A part that no seal references is garbage. Stored with a checksum from format 2 on; format 3 has findings,
    digests or chunks, format 4 rows of a cache.
    """

    format_version: Literal[1, 2, 3, 4] = 2
    shard: str
    name: str = Field(description="The shard's name for people.")
    group: str = Field(description="The file of which newer shards replace this one.")
    run: str
    attempt: str
    dim: int
    source_rows: int = Field(ge=0, description="Rows that the reader read.")
    embedded: int = Field(ge=0)
    duplicates: int = Field(ge=0)
    quarantined: tuple[Quarantined, ...]
    parts: tuple[Part, ...]
    seconds: float = Field(description="From the first read to the seal.")
    sealed_at: str = Field(description="UTC, ISO 8601.")
    cached: Annotated[int, ADDED_LATER] = Field(0, ge=0, description="Rows of `embedded` with vectors from the cache.")
    found: Annotated[tuple[Finding, ...], ADDED_LATER] = Field((), description="Findings while its rows were read that quarantine no row.")
    digests: Annotated[str, ADDED_LATER] = Field("", description="SHA-256 of the file of its rows' content digests; empty: none.")
    chunks: Annotated[ChunkCounts | None, ADDED_LATER] = Field(
        None, description="The chunks of documents that were split; None: each document is a row."
    )

    @property
    def rows(self) -> int:
        """Rows that it adds to a collection."""
        return self.embedded if self.chunks is None else self.chunks.rows

    @property
    def digest(self) -> str:
        """The digest that ledger entries refer to; an amended seal has another one.

        Ledgers, owners, proofs and files of keys contain it, so it must never change: a field that a later version adds is
        included only if it is not at its default.
        """
        return digest(_as_first_written(self))

    @property
    def stats(self) -> EncodeStats:
        return sum((part.stats for part in self.parts), EncodeStats())


LoadState = Literal["loading", "loaded", "doubted", "outdated"]


class Loaded(Growing):
    """The ledger entry of one shard in one collection: what was loaded, and whether it is still valid.

    In every state but `loaded` the shard must be loaded again before it may be relied on; in any state the collection may
    hold rows of it.
    """

    format_version: Literal[1, 2, 3] = Field(2, description="3: with `vectors_kept`.")
    shard: str
    state: LoadState = Field(
        "loaded",
        description="loading: written before the first row is sent. loaded: every row was acknowledged. doubted: a proof found it wrong."
        " outdated: a later run did not plan the shard, and its rows may have taken over keys of it.",
    )
    group: str = Field(description="The name of its first file below the root.")
    place: str | None = Field(None, description="The place of its first file: a path or a URI. None: an older entry without places.")
    files: int = Field(0, ge=0, description="Number of files that it spans; 0: an older entry without a count.")
    rows: int
    seal: str = Field(description="Digest of the seal that was loaded: a later amendment has a different one.")
    cut: int = Field(0, description="Texts of which the collection holds only the beginning; their vectors are of the whole text.")
    vectors_kept: Annotated[int, ADDED_LATER] = Field(
        0,
        ge=0,
        description="Rows sent without their vector, because the collection held it; a concurrent write may have replaced that vector.",
    )
    run: str
    seconds: float
    loaded_at: str

    @property
    def root(self) -> str | None:
        """The root that the name of its first file is relative to; None in older entries."""
        return (self.place.removesuffix(self.group).rstrip("/") or "/") if self.place is not None else None


def intent_of(shard: Shard, seal: Seal, *, run: str, at: str) -> Loaded:
    """Return the ledger entry to write before the first row of a shard is sent to a collection."""
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
    """The collection at an address, by the name of its ledger."""

    format_version: Literal[1] = 1
    target: str


class Root(Strict):
    """A root below which rows of a collection were read."""

    format_version: Literal[1] = 1
    root: str


# The fields of a seal and its values in the first version. Fields added later need a default, and no entry here.
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
    """Return the seal as JSON, without the fields of later versions that are at their defaults."""
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
    """An order-independent digest of a set of seals; memory does not grow with their number."""

    def __init__(self) -> None:
        self._mixed = 0
        self.count = 0

    def add(self, seal: Seal) -> Seal:
        """Add a seal, and return it."""
        self._mixed ^= int(seal.digest, 16)
        self.count += 1
        return seal

    @property
    def digest(self) -> str:
        return f"{self._mixed:032x}"
