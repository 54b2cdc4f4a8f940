"""Which shard owns a key that comes in several, and how the others are counted without it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.job.job import Job
from tasks.domain.shards.seal import Seal
from tasks.domain.strict import Strict

Policy = Literal["refuse", "first", "last"]


class Lost(Strict):
    """What a shard gave up to others."""

    seal: str = Field(description="Digest of the seal that was looked at: another one's parts are others.")
    parts: dict[int, int] = Field(description="Rows lost, by the part's place in the seal.")


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

    def of(self, seal: Seal) -> dict[int, int]:
        """Rows that this seal's parts have lost."""
        lost = self.lost.get(seal.shard)
        return lost.parts if lost and lost.seal == seal.digest else {}


def policy_of(job: Job) -> Policy:
    """Who owns a key. Where it is a hash of the content, whoever has it has the same row."""
    named = job.source.named
    return "first" if named and named.key is None else job.failures.on_duplicate


def owned(seal: Seal, lost: dict[int, int]) -> Seal:
    """The seal as the collection has to show it: rows that belong to another shard count as duplicates."""
    if not lost:
        return seal
    parts = (part.model_copy(update={"rows": part.rows - lost.get(place, 0)}) for place, part in enumerate(seal.parts))
    gone = sum(lost.values())
    return seal.model_copy(update={"parts": tuple(parts), "embedded": seal.embedded - gone, "duplicates": seal.duplicates + gone})
