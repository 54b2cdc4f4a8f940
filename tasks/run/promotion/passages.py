"""A chunk in its document: what stands before and after it, from the chunks beside it in the collection."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.domain.ports import Collection
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.chunk_fields import chunk_key, has_chunks
from tasks.domain.target.collection import CollectionSpec, Hit

CONTEXT_FIELDS = ("text", "start")


def passages_of(collection: Collection, spec: CollectionSpec, hits: Sequence[Hit]) -> dict[str, ChunkContext]:
    """By key, what stands around the text of hits that are chunks; nothing where the collection holds no texts.

    Args:
        collection: that the hits are of.
        spec: how it was made.
        hits: with the fields of chunks.
    """
    if not has_chunks(spec.fields) or not spec.store_text:
        return {}
    beside = {hit.id: _beside(hit) for hit in hits}
    found = collection.values_of([key for keys in beside.values() for key in keys], CONTEXT_FIELDS)
    return {hit.id: ChunkContext.between(hit.fields, *(found.get(key) for key in beside[hit.id])) for hit in hits}


def _beside(hit: Hit) -> tuple[str, str]:
    document, chunk = str(hit.fields["document"]), int(str(hit.fields["chunk"]))
    return chunk_key(document, chunk - 1), chunk_key(document, chunk + 1)
