"""The result of a verification: the compared rows and their differences."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict


class ShardCount(Strict):
    """The number of one shard's rows, sealed and found."""

    shard: str
    name: str = Field(description="The shard's name for people.")
    sealed: int = Field(ge=0)
    found: int = Field(ge=0, description="By a strong count on the shard's field.")
    same_keys: bool | None = Field(None, description="Whether it has exactly the sealed keys; None: not checked.")
    differences: int = Field(0, ge=0, description="Keys of it with a difference.")
    retained: bool = Field(False, description="Its file is no longer in the source: newer shards may own some of its rows.")

    @property
    def wrong(self) -> bool:
        """Whether the collection differs from its seal."""
        miscounted = self.found > self.sealed if self.retained else self.found != self.sealed
        return miscounted or self.differences > 0 or self.same_keys is False


class Proof(Strict):
    """The result of `verify`. Proved: every count, the total and every compared row equal the seals, and recall is sufficient."""

    format_version: Literal[1, 2] = 2
    proved: bool
    reasons: tuple[str, ...] = Field(description="One line per difference; empty when verified.")
    notes: tuple[str, ...] = Field((), description="Remarks that are not differences, such as an index that is not the job's.")
    counts: tuple[ShardCount, ...] = Field(description="One for every shard, in the order given.")
    rows: int = Field(ge=0, description="Sum of the sealed rows.")
    total: int = Field(ge=0, description="Rows in the whole collection.")
    sampled: int = Field(ge=0)
    absent: int = Field(ge=0, description="Sampled keys that are not in the collection.")
    lowest_cosine: float | None = Field(description="Cosine of stored and sealed vectors; None: no row was compared.")
    recall_at_10: float | None = Field(description="As defined by tasks.adapters.targets.verification; None with no sample.")
    found_by_words: float | None = Field(
        None, description="Share of some sampled rows that a search for their own words finds; None: no full text."
    )
    index: str = Field("", description="The index that was searched, with its parameters.")
    covers: str = Field("", description="Digest of the seals that were compared: a proof of other seals is stale.")
    collection: str = Field("", description="Identity of the collection: a proof of another one is stale.")
    full: bool = Field(False, description="Whether every row was compared, instead of a sample.")
    compared: int = Field(0, ge=0, description="Rows with compared vector and fields.")
    fields: int = Field(0, ge=0, description="Compared fields of each row, including the vector.")
    retained: int = Field(0, ge=0, description="Rows found of shards whose files are no longer in the source.")
    foreign: int = Field(0, ge=0, description="Rows of other writers, in a shared collection.")
    unaccounted: int = Field(0, ge=0, description="Rows that no seal accounts for.")
    kinds: dict[str, int] = Field(default_factory=dict, description="Differences by kind; those of fields by the field's name.")
    seed: int = Field(description="Seed of the sample: the same seed and seals give the same sample.")
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether the collection holds exactly the sealed rows: counts and total agree, and every row was compared."""
        counted = self.proved and self.format_version > 1 and not self.foreign and self.total == self.rows + self.retained
        return counted and (self.full or self.sampled >= self.total)

    @property
    def wrong_shards(self) -> tuple[str, ...]:
        """The shards that differ from their seals."""
        return tuple(count.shard for count in self.counts if count.wrong)

    def holds_for(self, covers: str, collection: str) -> bool:
        """Whether it proves these seals in this collection."""
        return self.proved and self.covers == covers and self.collection in ("", collection)


CONFIDENCE = 0.95


def most_wrong(sampled: int, rows: int) -> float | None:
    """Upper 95% confidence bound on the share of wrong rows when a sample of n rows shows none.

    With a share s of wrong rows, a sample of n has none with probability at most (1 - s)^n (less without replacement),
    so the bound is the s with (1 - s)^n = 0.05; it is 0 if every row is sampled. None: no sample.
    """
    if not sampled:
        return None
    return 0.0 if sampled >= rows else float(1 - (1 - CONFIDENCE) ** (1 / sampled))


def scope(proof: Proof) -> str:
    """Describe what was compared, as a phrase."""
    if proof.full:
        return "every row: its key once, its vector, its fields and its shard"
    sample = f"a sample of {proof.sampled:,} vectors and their fields" if proof.sampled else "no single row"
    return f"counts of all rows, and {sample}"


def compared(proof: Proof) -> tuple[str, ...]:
    """Describe each comparison in one line."""
    return (_counts(proof), *_rows(proof), *_searches(proof))


def _counts(proof: Proof) -> str:
    retained = sum(count.retained for count in proof.counts)
    kept = f" and {proof.retained:,} rows of {retained:,} that are no longer in the source" if retained else ""
    others = f"; {proof.foreign:,} rows of other writers are in the collection as well" if proof.foreign else ""
    total = ", and the total" if proof.format_version > 1 else ""
    return (
        f"{len(proof.counts) - retained:,} shards, {proof.rows:,} rows{kept}: their counts by shard{total}, with strong consistency{others}"
    )


def _rows(proof: Proof) -> list[str]:
    bound, cosine, rows = most_wrong(proof.sampled, proof.rows + proof.retained), proof.lowest_cosine, proof.rows + proof.retained
    if proof.full and cosine is not None:
        return [f"every row: key once, vector, {proof.fields} fields in all (lowest cosine {cosine:.6f})"]
    if bound is None or cosine is None:
        return []
    certainty = f"with {CONFIDENCE:.0%} confidence fewer than {bound:.2%} are wrong" if bound else "all of them"
    what = "their vectors and fields" if proof.fields else "their vectors"
    return [f"{proof.sampled:,} of {rows:,} rows with {what} (lowest cosine {cosine:.6f}; seed {proof.seed}): {certainty}"]


def _searches(proof: Proof) -> list[str]:
    recall, worded = proof.recall_at_10, proof.found_by_words
    lines = [] if recall is None else [f"recall@10 against exact search over the sample: {recall:.4f} (index {proof.index})"]
    return [*lines, *([] if worded is None else [f"full text: {worded:.1%} of sampled rows are found by their own words"])]


def unproved(*reasons: str) -> Proof:
    """Return the proof of a verification that could not compare anything, with the reasons."""
    none: dict[str, int] = dict.fromkeys(("rows", "total", "sampled", "absent", "seed"), 0)
    return Proof(proved=False, reasons=reasons, counts=(), lowest_cosine=None, recall_at_10=None, seconds=0.0, **none)
