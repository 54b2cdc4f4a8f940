"""The text before and after a chunk in its document, from the adjacent chunks in the collection."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.domain.ports import Collection
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.chunk_fields import chunk_key, has_chunks
from tasks.domain.target.collection import CollectionSpec, Hit

CONTEXT_FIELDS = ("text", "start")


def passages_of(collection: Collection, spec: CollectionSpec, hits: Sequence[Hit]) -> dict[str, ChunkContext]:
    """The surrounding text of hits that are chunks, by key; empty if the collection stores no text.

    Args:
        collection: of the hits.
        spec: of the collection.
        hits: with the fields of chunks.
    """
    if not has_chunks(spec.fields) or not spec.store_text:
        return {}
    adjacent = {hit.id: _adjacent_keys(hit) for hit in hits}
    values = collection.values_of([key for keys in adjacent.values() for key in keys], CONTEXT_FIELDS)
    return {hit.id: ChunkContext.between(hit.fields, *(values.get(key) for key in adjacent[hit.id])) for hit in hits}


def _adjacent_keys(hit: Hit) -> tuple[str, str]:
    document, chunk = str(hit.fields["document"]), int(str(hit.fields["chunk"]))
    return chunk_key(document, chunk - 1), chunk_key(document, chunk + 1)
