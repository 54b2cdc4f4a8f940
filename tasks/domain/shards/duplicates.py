"""Ownership of keys that occur in several shards, and the counts of the other shards without them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.domain.job.job import Job
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.strict import ADDED_LATER, Growing, Strict

Policy = Literal["refuse", "first", "last"]


class Lost(Growing):
    """The rows of a shard whose keys other shards own."""

    seal: str = Field(description="Digest of the seal that these counts are valid for.")
    parts: dict[int, int] = Field(description="Rows lost, by the part's position in the seal.")
    documents: Annotated[dict[int, int], ADDED_LATER] = Field(
        default_factory=dict, description="If rows are chunks: documents lost, by the part in which they begin."
    )


class Owners(Strict):
    """The result of deduplication for one collection, stored with its ledger."""

    format_version: Literal[1, 2] = 2
    covers: str = Field(description="Digest of the seals that were deduplicated.")
    policy: Policy
    settled: bool = Field(description="False: rows were loaded since.")
    table: str | None = Field(None, description="Key of the Parquet object with every lost row: id, shard, part. None: no row was lost.")
    lost: dict[str, Lost] = Field(default_factory=dict, description="By shard.")
    refused: dict[str, str] = Field(default_factory=dict, description="If duplicates are refused: the message for each of some shards.")

    def of(self, seal: Seal) -> Lost | None:
        """Return the lost rows of this seal's parts."""
        lost = self.lost.get(seal.shard)
        return lost if lost and lost.seal == seal.digest and lost.parts else None


def policy_of(job: Job) -> Policy:
    """Return the rule by which a key's owner is chosen. If the key is a hash of the content, all rows with it are equal."""
    named = job.source.named
    return "first" if named and named.key is None else job.failures.on_duplicate


def owned(seal: Seal, lost: Lost | None) -> Seal:
    """Return the seal that the collection should match: rows owned by another shard count as duplicates."""
    if lost is None:
        return seal
    parts = tuple(_less(part, lost.parts.get(place, 0), lost.documents.get(place, 0)) for place, part in enumerate(seal.parts))
    lost_rows = sum(part.source_rows for part in seal.parts) - sum(part.source_rows for part in parts)
    chunks = seal.chunks and seal.chunks.model_copy(update={"rows": sum(part.rows for part in parts)})
    return seal.model_copy(
        update={"parts": parts, "embedded": seal.embedded - lost_rows, "duplicates": seal.duplicates + lost_rows, "chunks": chunks}
    )


def _less(part: Part, rows: int, documents: int) -> Part:
    remaining = None if part.documents is None else part.documents - documents
    return part.model_copy(update={"rows": part.rows - rows, "documents": remaining})
