"""Load a sealed part into a collection."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.errors import Permanent
from tasks.domain.ports import Collection


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
