"""What an engine tells while it works: what became of each shard, as soon as that is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tasks.domain.errors import KitestringError, Leaf, error_of, leaf_of
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.shards.shard import Shard
from tasks.domain.strict import Strict


class ShardSealed(Strict):
    """A shard is sealed, by this engine or in the same moment by somebody else."""

    kind: Literal["sealed"] = "sealed"
    seal: Seal = Field(description="The one that stands.")
    encoded: int = Field(description="Rows of it that were encoded for it here; the others are of earlier tries.")
    cached: int = Field(0, description="Rows of it whose vectors came from the cache.")
    adopted: int = Field(description="Parts of it that earlier tries had finished.")


class ShardReused(Strict):
    """A shard was sealed already."""

    kind: Literal["reused"] = "reused"
    seal: Seal


class ShardFailed(Strict):
    """A shard cannot be sealed, or its quarantined rows not be read: for good."""

    kind: Literal["failed"] = "failed"
    shard: str
    name: str
    leaf: Leaf
    text: str
    row: int | None = Field(None, description="The row of the shard that it is about.")
    at: Literal["encode", "load"] = Field("encode", description="load: its seal stands, and cannot be loaded from where that was tried.")

    @property
    def error(self) -> KitestringError:
        """What it failed with."""
        return error_of(self.leaf, self.text, row=self.row)


class ShardLoaded(Strict):
    """A sealed shard is in the collection, and the ledger says so."""

    kind: Literal["loaded"] = "loaded"
    entry: Loaded
    replaced: bool = Field(description="Rows of an earlier seal of it may be left in the collection.")

    @property
    def shard(self) -> str:
        """Its id."""
        return self.entry.shard


class ShardAmended(Strict):
    """Quarantined rows of a sealed shard were tried again, and some have left the quarantine."""

    kind: Literal["amended"] = "amended"
    shard: str
    recovered: int = Field(description="Rows that have a vector now.")


class DocumentMoved(Strict):
    """A document of the checkpoint could not be read, and was moved aside."""

    kind: Literal["moved"] = "moved"
    key: str
    line: str = Field(description="What is wrong with it and where it is now, for people.")


EncodingEvent = ShardSealed | ShardReused | ShardFailed | ShardAmended | ShardLoaded | DocumentMoved
Tell = Callable[[EncodingEvent], None]
EVENTS: TypeAdapter[EncodingEvent] = TypeAdapter(Annotated[EncodingEvent, Field(discriminator="kind")])  # as JSON, from another process


def failure_of(shard: Shard, error: KitestringError, *, at: Literal["encode", "load"] = "encode") -> ShardFailed:
    """An error as it is told of a shard."""
    return ShardFailed(shard=shard.id, name=shard.name, leaf=leaf_of(error), text=str(error), row=error.row, at=at)
