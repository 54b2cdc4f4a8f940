"""The inputs of an engine: one for the run, then one for each group of shards. Plain values, which can be sent to other machines."""

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
    """All that a machine needs to encode for a run, except credentials, which come from its own environment."""

    format_version: Literal[1] = 1
    run: str
    job: Job
    fields: tuple[SourceField, ...]
    weights: str = Field(description="Digest of the model's weights, which every machine must have.")
    declared: str = Field(description="Digest of the encoder as the job declares it, and of its weights.")
    pinned: EncoderRecord | None = Field(None, description="The encoder that the corpus' first run pinned; None: this is the first run.")
    dry: bool = Field(False, description="Parts go to scratch, and the checkpoint is not written.")


class ShardGroup(Strict):
    """Shards that are encoded one after another, each with its own seal."""

    format_version: Literal[1] = 1
    shards: tuple[Shard, ...]
    record: EncoderRecord = Field(description="The encoder recorded in their seals.")
    attempt: str = Field(
        description="Names the keys of their parts. Begins with the run's id; a key that was sealed or condemned is never used again."
    )
    donors: tuple[str, ...] = Field((), description="Sealed shards to reuse vectors from for rows of the same content, best first.")
    rows: Literal["all", "quarantined"] = Field(
        "all", description="all: every row of unsealed shards. quarantined: only the quarantined rows of sealed shards."
    )

    def take(self, shards: Iterable[Shard], *, apart: bool) -> Self:
        """Return a group of some of its shards. `apart`: with an attempt of its own, since another host may still encode them."""
        attempt = f"{self.attempt}-{secrets.token_hex(4)}" if apart else self.attempt
        return self.model_copy(update={"shards": tuple(shards), "attempt": attempt})


class LoadGroup(Strict):
    """Shards that are loaded one after another from their seals. The collection exists; the loading process has its own credentials."""

    format_version: Literal[1] = 1
    shards: tuple[Shard, ...]
    record: EncoderRecord = Field(description="The encoder recorded in their seals.")
    collection: CollectionSpec
    identity: str = Field(description="The collection's identity: loading into another collection of the same name is refused.")
    ledger: str = Field(description="The name of the collection's ledger.")

    def take(self, shards: Iterable[Shard], *, apart: bool) -> Self:  # noqa: ARG002 - loading twice changes nothing
        """Return a group of some of its shards."""
        return self.model_copy(update={"shards": tuple(shards)})
