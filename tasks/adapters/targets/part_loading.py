"""Load a sealed part into a collection."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.errors import Permanent
from tasks.domain.ports import Collection

KEYS_PER_SLICE = 10_000  # keys at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLoaded:
    """What a collection has acknowledged."""

    rows: int
    cut: int  # texts that were too long for the stored field

    def __add__(self, other: PartLoaded) -> PartLoaded:
        return PartLoaded(rows=self.rows + other.rows, cut=self.cut + other.cut)


def load_part(collection: Collection, part: pa.Table, shard: str) -> PartLoaded:
    """Upsert every row of a part, whose columns are the collection's fields; returns when acknowledged.

    Raises:
        Permanent: the part is not this shard's, or lacks a field.
        OutcomeUnknown: the server stayed away; loading the part again is safe.
    """
    if not pc.all(pc.equal(part["shard"], shard), min_count=0).as_py() or part["shard"].null_count:
        raise Permanent(f"a part of shard {shard} holds rows of another shard: encode the shard again")
    return PartLoaded(rows=part.num_rows, cut=collection.upsert(part))


def load_free_rows(collection: Collection, part: pa.Table, shard: str, *, others: Container[str] | None = None) -> PartLoaded:
    """The same for those rows alone whose key no other shard holds. `others`: the shards that count; None: all."""
    taken = [key for key, held in _holders(collection, part) if held != shard and (others is None or held in others)]
    return load_part(collection, part.filter(pc.invert(pc.is_in(part["id"], value_set=pa.array(taken, pa.string())))), shard)


def _holders(collection: Collection, part: pa.Table) -> Iterator[tuple[str, str]]:
    keys = part["id"].to_pylist()
    for first in range(0, len(keys), KEYS_PER_SLICE):
        yield from collection.shards_of(keys[first : first + KEYS_PER_SLICE]).items()
