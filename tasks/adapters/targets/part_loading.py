"""Load a sealed part into a collection."""

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

KEYS_PER_SLICE = 10_000  # keys at a time
log = logging.getLogger("kitestring.load")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLoaded:
    """What a collection has acknowledged."""

    rows: int
    cut: int  # texts that were too long for the stored field
    vectors_kept: int = 0  # rows that were sent without their vector

    def __add__(self, other: PartLoaded) -> PartLoaded:
        kept = self.vectors_kept + other.vectors_kept
        return PartLoaded(rows=self.rows + other.rows, cut=self.cut + other.cut, vectors_kept=kept)


def load_part(collection: Collection, part: pa.Table, shard: str) -> PartLoaded:
    """Upsert every row of a part, whose columns are the collection's fields; returns when acknowledged.

    Raises:
        Permanent: the part is not this shard's, or lacks a field.
        OutcomeUnknown: the server stayed away; loading the part again is safe.
    """
    if not pc.all(pc.equal(part["shard"], shard), min_count=0).as_py() or part["shard"].null_count:
        raise Permanent(f"a part of shard {shard} holds rows of another shard: encode the shard again")
    return PartLoaded(rows=part.num_rows, cut=collection.upsert(part))


def load_beside_vectors(collection: Collection, part: pa.Table, shard: str, held: np.ndarray) -> PartLoaded:
    """The same, less the vectors of those rows whose vector the collection holds (`held`), unless one of those has left it meanwhile."""
    if not held.any():
        return load_part(collection, part, shard)
    whole, fields = load_part(collection, part.filter(pa.array(~held)), shard), part.filter(pa.array(held))
    try:
        cut = collection.upsert_fields(fields)
    except Permanent as refused:
        log.info("rows of shard %s are sent whole: %s", shard, refused)
        return whole + load_part(collection, fields, shard)
    return whole + PartLoaded(rows=fields.num_rows, cut=cut, vectors_kept=fields.num_rows)


def load_free_rows(
    collection: Collection, part: pa.Table, shard: str, *, others: Container[str] | None = None, chunks: bool = False
) -> PartLoaded:
    """The same for those rows alone whose key no other shard holds, and of chunks those of documents that no other holds.

    Args:
        collection: that says who holds a key.
        part: the rows.
        shard: whose they are.
        others: the shards that count; None: all.
        chunks: the rows are chunks.
    """
    keys = first_chunks(part["document"].to_pylist()) if chunks else part["id"].to_pylist()
    taken = [key for key, held in _holders(collection, list(keys)) if held != shard and (others is None or held in others)]
    names = part["document"] if chunks else part["id"]
    wanted = [keys[key] for key in taken] if isinstance(keys, dict) else taken
    return load_part(collection, part.filter(pc.invert(pc.is_in(names, value_set=pa.array(wanted, pa.string())))), shard)


def first_chunks(documents: Iterable[str]) -> dict[str, str]:
    """Documents by the key of the chunk that each has, however short it is."""
    return {chunk_key(document, 0): document for document in documents}


def remove_leftovers(collection: Collection, shard: str) -> int:
    """Chunks of documents that another shard holds by now leave a shard; how many. Those that the other has as well are its already."""
    held = [(key, *split_chunk_key(key)) for key in collection.keys(shard)]
    whole = {document for _, document, number in held if number == 0}
    leftovers = [key for key, document, _ in held if document not in whole]
    collection.delete_keys(leftovers)
    return len(leftovers)


def _holders(collection: Collection, keys: list[str]) -> Iterator[tuple[str, str]]:
    for first in range(0, len(keys), KEYS_PER_SLICE):
        yield from collection.shards_of(keys[first : first + KEYS_PER_SLICE]).items()
