"""What an engine is told: once of the run, and then of each group of shards. Plain values, so that another machine can be told the same."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field

from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.job.job import Job
from tasks.domain.shards.shard import Shard
from tasks.domain.strict import Strict
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.fields import SourceField


class EncodingSpec(Strict):
    """All that a machine has to know of a run to encode for it; credentials come from its own environment."""

    format_version: Literal[1] = 1
    run: str
    job: Job
    fields: tuple[SourceField, ...]
    weights: str = Field(description="Digest of the model's weights, which every machine has to have.")
    declared: str = Field(description="Digest of the encoder as the job declares it, and of its weights.")
    pinned: EncoderRecord | None = Field(None, description="What the corpus' first run settled; None: this is the first.")
    dry: bool = Field(False, description="Parts go to scratch, and the checkpoint is read only.")


class ShardGroup(Strict):
    """Shards that are encoded one after another, each sealed by itself."""

    format_version: Literal[1] = 1
    shards: tuple[Shard, ...]
    record: EncoderRecord = Field(description="The encoder that they are sealed under.")
    attempt: str = Field(
        description="Where their parts are put. Begins with the run's id; a key that was sealed or condemned once is never used again."
    )
    donors: tuple[str, ...] = Field(
        (), description="Sealed shards whose vectors may be taken over for rows of the same content, best first."
    )
    rows: Literal["all", "quarantined"] = Field(
        "all", description="all: of shards that are not sealed. quarantined: of sealed shards, those rows that were set aside."
    )

    def take(self, shards: Iterable[Shard], *, apart: bool) -> Self:
        """Some shards of it. `apart`: under an attempt of their own, since somebody may still be at work on them."""
        attempt = f"{self.attempt}-{secrets.token_hex(4)}" if apart else self.attempt
        return self.model_copy(update={"shards": tuple(shards), "attempt": attempt})


class LoadGroup(Strict):
    """Shards that are loaded one after another from their seals. The collection is there; credentials are those of the process that loads."""

    format_version: Literal[1] = 1
    shards: tuple[Shard, ...]
    record: EncoderRecord = Field(description="The encoder that they are sealed under.")
    collection: CollectionSpec
    identity: str = Field(description="Of the collection: another one of its name is not loaded into.")
    ledger: str = Field(description="The name of the collection's ledger.")

    def take(self, shards: Iterable[Shard], *, apart: bool) -> Self:  # noqa: ARG002 - loading twice changes nothing
        """Some shards of it."""
        return self.model_copy(update={"shards": tuple(shards)})
