"""Which shard owns a key that comes in several, and how the others are counted without it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.domain.job.job import Job
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.strict import ADDED_LATER, Growing, Strict

Policy = Literal["refuse", "first", "last"]


class Lost(Growing):
    """What a shard gave up to others."""

    seal: str = Field(description="Digest of the seal that was looked at: another one's parts are others.")
    parts: dict[int, int] = Field(description="Rows lost, by the part's place in the seal.")
    documents: Annotated[dict[int, int], ADDED_LATER] = Field(
        default_factory=dict, description="Where rows are chunks: documents lost, by the part that they begin in."
    )


class Owners(Strict):
    """The result of deduplication for one collection, stored with its ledger."""

    format_version: Literal[1, 2] = 2
    covers: str = Field(description="Digest of the seals that were looked at.")
    policy: Policy
    settled: bool = Field(description="False: something was loaded since.")
    table: str | None = Field(None, description="Key of the Parquet object with every lost row: id, shard, part. None: there is none.")
    lost: dict[str, Lost] = Field(default_factory=dict, description="By shard.")
    refused: dict[str, str] = Field(
        default_factory=dict, description="Where duplicates are refused: some shards, and what is told of them."
    )

    def of(self, seal: Seal) -> Lost | None:
        """What this seal's parts have lost."""
        lost = self.lost.get(seal.shard)
        return lost if lost and lost.seal == seal.digest and lost.parts else None


def policy_of(job: Job) -> Policy:
    """Who owns a key. Where it is a hash of the content, whoever has it has the same row."""
    named = job.source.named
    return "first" if named and named.key is None else job.failures.on_duplicate


def owned(seal: Seal, lost: Lost | None) -> Seal:
    """The seal as the collection has to show it: rows that belong to another shard count as duplicates."""
    if lost is None:
        return seal
    parts = tuple(_less(part, lost.parts.get(place, 0), lost.documents.get(place, 0)) for place, part in enumerate(seal.parts))
    gone = sum(part.source_rows for part in seal.parts) - sum(part.source_rows for part in parts)
    chunks = seal.chunks and seal.chunks.model_copy(update={"rows": sum(part.rows for part in parts)})
    return seal.model_copy(
        update={"parts": parts, "embedded": seal.embedded - gone, "duplicates": seal.duplicates + gone, "chunks": chunks}
    )


def _less(part: Part, rows: int, documents: int) -> Part:
    left = None if part.documents is None else part.documents - documents
    return part.model_copy(update={"rows": part.rows - rows, "documents": left})
