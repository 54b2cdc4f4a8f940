"""The proof after loading: what was compared, and what did not hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict


class ShardCount(Strict):
    """One shard's rows, sealed and found."""

    shard: str
    name: str = Field(description="The shard's name for people.")
    sealed: int = Field(ge=0)
    found: int = Field(ge=0, description="By a strong count on the shard's field.")
    same_keys: bool | None = Field(None, description="Whether a digest of all its keys is that of the sealed ones; None: not asked.")


class Proof(Strict):
    """What `verify` found. Proved means: every count equal, every sampled row there with its vector, recall as asked."""

    format_version: Literal[1] = 1
    proved: bool
    reasons: tuple[str, ...] = Field(description="One line for each thing that does not hold; empty when proved.")
    counts: tuple[ShardCount, ...] = Field(description="Every shard, in the order given.")
    rows: int = Field(ge=0, description="Sum of the sealed rows.")
    total: int = Field(ge=0, description="Rows in the whole collection; other corpora may share it, so it proves nothing.")
    sampled: int = Field(ge=0)
    absent: int = Field(ge=0, description="Sampled keys that are not in the collection.")
    lowest_cosine: float | None = Field(description="Of a sampled row's vector to its seal; None with no sample.")
    recall_at_10: float | None = Field(description="As defined by tasks.adapters.proof; None with no sample.")
    index: str = Field("", description="The index that was searched, with its parameters.")
    covers: str = Field("", description="Digest of the seals it was held against: a proof of other seals is stale.")
    seed: int
    seconds: float


CONFIDENCE = 0.95


def most_wrong(sampled: int, rows: int) -> float | None:
    """The share of wrong rows below which a sample without any lets us say that they are, with 95% confidence.

    A share s of wrong rows shows none of them in n drawn with probability at most (1 - s)^n (drawing without putting
    back only makes it less), so s with (1 - s)^n = 0.05 is the bound; with every row drawn it is 0. None: no sample.
    """
    if not sampled:
        return None
    return 0.0 if sampled >= rows else float(1 - (1 - CONFIDENCE) ** (1 / sampled))


def compared(proof: Proof) -> tuple[str, ...]:
    """What was held against what, in lines for people."""
    keys = " and digests of all their keys" if any(count.same_keys is not None for count in proof.counts) else ""
    lines = [f"{len(proof.counts):,} shards, {proof.rows:,} rows: their counts by shard{keys}, with strong consistency"]
    bound, cosine, recall = most_wrong(proof.sampled, proof.rows), proof.lowest_cosine, proof.recall_at_10
    if bound is not None and cosine is not None:
        sure = f"with {CONFIDENCE:.0%} confidence fewer than {bound:.2%} are wrong" if bound else "every row"
        lines.append(f"{proof.sampled:,} of {proof.rows:,} rows with their vectors (lowest cosine {cosine:.6f}): {sure}")
    if recall is not None:
        lines.append(f"recall@10 against exact search over the sample: {recall:.4f} (index {proof.index})")
    return tuple(lines)


def unproved(*reasons: str) -> Proof:
    """Nothing could be compared, and why."""
    none: dict[str, int] = dict.fromkeys(("rows", "total", "sampled", "absent", "seed"), 0)
    return Proof(proved=False, reasons=reasons, counts=(), lowest_cosine=None, recall_at_10=None, seconds=0.0, **none)
