"""Loads sealed parts into a collection."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.domain.errors import Permanent
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_fields import chunk_key, split_chunk_key

KEYS_PER_SLICE = 10_000
log = logging.getLogger("kitestring.load")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLoaded:
    """Counts of the rows that a collection has acknowledged."""

    rows: int
    cut: int  # texts that were too long for the stored field
    vectors_kept: int = 0  # rows that were sent without their vector

    def __add__(self, other: PartLoaded) -> PartLoaded:
        vectors_kept = self.vectors_kept + other.vectors_kept
        return PartLoaded(rows=self.rows + other.rows, cut=self.cut + other.cut, vectors_kept=vectors_kept)


def load_part(collection: Collection, part: pa.Table, shard: str) -> PartLoaded:
    """Upsert every row of a part; returns when acknowledged. The part's columns are the collection's fields.

    Raises:
        Permanent: the part belongs to another shard or lacks a field.
        OutcomeUnknown: the server did not answer; loading the part again is safe.
    """
    if not pc.all(pc.equal(part["shard"], shard), min_count=0).as_py() or part["shard"].null_count:
        raise Permanent(f"a part of shard {shard} has rows of another shard: encode the shard again")
    return PartLoaded(rows=part.num_rows, cut=collection.upsert(part))


def load_beside_vectors(collection: Collection, part: pa.Table, shard: str, held: np.ndarray) -> PartLoaded:
    """Load a part without the vectors that the collection has already (mask `held`); sends all if one of those rows has left it meanwhile."""
    if not held.any():
        return load_part(collection, part, shard)
    whole, fields = load_part(collection, part.filter(pa.array(~held)), shard), part.filter(pa.array(held))
    try:
        cut = collection.upsert_fields(fields)
    except Permanent as refused:
        log.info("rows of shard %s are sent with their vectors: %s", shard, refused)
        return whole + load_part(collection, fields, shard)
    return whole + PartLoaded(rows=fields.num_rows, cut=cut, vectors_kept=fields.num_rows)


def load_free_rows(
    collection: Collection, part: pa.Table, shard: str, *, others: Container[str] | None = None, chunks: bool = False
) -> PartLoaded:
    """Load only the rows whose key (for chunks: whose document) no other shard holds in the collection.

    Args:
        collection: the collection.
        part: the rows.
        shard: their shard.
        others: the other shards to respect; None: all.
        chunks: whether rows are chunks.
    """
    keys = first_chunks(part["document"].to_pylist()) if chunks else part["id"].to_pylist()
    taken = [key for key, holder in _holders(collection, list(keys)) if holder != shard and (others is None or holder in others)]
    names = part["document"] if chunks else part["id"]
    excluded = [keys[key] for key in taken] if isinstance(keys, dict) else taken
    return load_part(collection, part.filter(pc.invert(pc.is_in(names, value_set=pa.array(excluded, pa.string())))), shard)


def first_chunks(documents: Iterable[str]) -> dict[str, str]:
    """Documents by the key of their first chunk, which every document has."""
    return {chunk_key(document, 0): document for document in documents}


def remove_leftovers(collection: Collection, shard: str) -> int:
    """Remove a shard's remaining chunks of documents that another shard has taken over; return how many.

    Taking over a document replaces chunks of the same key; those with higher numbers than the new version has remain.
    """
    chunks = [(key, *split_chunk_key(key)) for key in collection.keys(shard)]
    own = {document for _, document, number in chunks if number == 0}
    leftovers = [key for key, document, _ in chunks if document not in own]
    collection.delete_keys(leftovers)
    return len(leftovers)


def _holders(collection: Collection, keys: list[str]) -> Iterator[tuple[str, str]]:
    for first in range(0, len(keys), KEYS_PER_SLICE):
        yield from collection.shards_of(keys[first : first + KEYS_PER_SLICE]).items()
