"""Events that an engine emits while it works: the outcome of each shard, as soon as it is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from tasks.domain.errors import KitestringError, Leaf, error_of, leaf_of
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.shards.shard import Shard
from tasks.domain.strict import Strict


class ShardSealed(Strict):
    """A shard is sealed, by this engine or by a concurrent one."""

    kind: Literal["sealed"] = "sealed"
    seal: Seal = Field(description="The committed seal.")
    encoded: int = Field(description="Rows of it that this engine encoded; earlier attempts encoded the others.")
    cached: int = Field(0, description="Rows of it with vectors from the cache.")
    adopted: int = Field(description="Parts of it that earlier attempts had finished.")


class ShardReused(Strict):
    """A shard was already sealed."""

    kind: Literal["reused"] = "reused"
    seal: Seal


class ShardFailed(Strict):
    """A shard cannot be sealed or loaded, or its quarantined rows cannot be read. Permanent."""

    kind: Literal["failed"] = "failed"
    shard: str
    name: str
    leaf: Leaf
    text: str
    row: int | None = Field(None, description="The row of the shard that the error is about.")
    at: Literal["encode", "load"] = Field("encode", description="load: the seal is committed, but this host could not load it.")

    @property
    def error(self) -> KitestringError:
        """The error that it failed with."""
        return error_of(self.leaf, self.text, row=self.row)


class ShardLoaded(Strict):
    """A sealed shard is in the collection and recorded in the ledger."""

    kind: Literal["loaded"] = "loaded"
    entry: Loaded
    replaced: bool = Field(description="The collection may still hold rows of an earlier seal of it.")

    @property
    def shard(self) -> str:
        """The shard's id."""
        return self.entry.shard


class ShardAmended(Strict):
    """Quarantined rows of a sealed shard were retried, and some have left the quarantine."""

    kind: Literal["amended"] = "amended"
    shard: str
    recovered: int = Field(description="Rows that have a vector now.")


class DocumentMoved(Strict):
    """An unreadable document of the checkpoint was moved aside."""

    kind: Literal["moved"] = "moved"
    key: str
    line: str = Field(description="The fault and the new place, for people.")


EncodingEvent = ShardSealed | ShardReused | ShardFailed | ShardAmended | ShardLoaded | DocumentMoved
Tell = Callable[[EncodingEvent], None]
EVENTS: TypeAdapter[EncodingEvent] = TypeAdapter(Annotated[EncodingEvent, Field(discriminator="kind")])  # JSON from another process


def failure_of(shard: Shard, error: KitestringError, *, at: Literal["encode", "load"] = "encode") -> ShardFailed:
    """Return the event for an error of a shard."""
    return ShardFailed(shard=shard.id, name=shard.name, leaf=leaf_of(error), text=str(error), row=error.row, at=at)
