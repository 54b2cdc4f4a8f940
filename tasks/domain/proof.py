"""The proof after loading: what was compared, and what did not hold."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.strict import Strict


class ShardCount(Strict):
    """One shard's rows, sealed and found."""

    shard: str
    name: str = Field(description="The shard's name for people.")
    sealed: int = Field(ge=0)
    found: int = Field(ge=0, description="By a strong count on the shard's field.")


class Proof(Strict):
    """What `verify` found. Proved means: every count equal, every sampled row there with its vector, recall as asked."""

    format_version: int = 1
    proved: bool
    reasons: tuple[str, ...] = Field(description="One line for each thing that does not hold; empty when proved.")
    counts: tuple[ShardCount, ...] = Field(description="Every shard, in the order given.")
    rows: int = Field(ge=0, description="Sum of the sealed rows.")
    total: int = Field(ge=0, description="Rows in the whole collection; other corpora may share it, so it proves nothing.")
    sampled: int = Field(ge=0)
    absent: int = Field(ge=0, description="Sampled keys that are not in the collection.")
    lowest_cosine: float | None = Field(description="Of a sampled row's vector to its seal; None with no sample.")
    recall_at_10: float | None = Field(description="As defined by tasks.adapters.proof; None with no sample.")
    covers: str = Field("", description="Digest of the seals it was held against: a proof of other seals is stale.")
    seed: int
    seconds: float


def unproved(reason: str) -> Proof:
    """Nothing could be compared, and why."""
    none: dict[str, int] = dict.fromkeys(("rows", "total", "sampled", "absent", "seed"), 0)
    return Proof(proved=False, reasons=(reason,), counts=(), lowest_cosine=None, recall_at_10=None, seconds=0.0, **none)
