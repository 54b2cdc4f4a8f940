"""Search a collection by vectors (dense or sparse), by words (full text), or by both (hybrid)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.domain.errors import BadInput
from tasks.domain.job.gate import VECTOR_MODES, SearchMode
from tasks.domain.ports import Collection
from tasks.domain.target.collection import CollectionSpec, Hit
from tasks.domain.target.document_hits import best_of_documents
from tasks.domain.target.full_text import CANDIDATES, Fusion

if TYPE_CHECKING:
    import numpy as np


def modes_of(spec: CollectionSpec) -> tuple[SearchMode, ...]:
    """The search modes of a collection; the last one is the default."""
    vectors = vector_mode(spec)
    return (vectors, "text", "hybrid") if spec.full_text else (vectors,)


def vector_mode(spec: CollectionSpec) -> SearchMode:
    """The mode that searches the vectors of a collection."""
    return "sparse" if spec.sparse else "dense"


def check_mode(spec: CollectionSpec, mode: SearchMode | None, setting: str) -> SearchMode:
    """Check a search mode; None gives the collection's default.

    Raises:
        BadInput: the collection has no full text, or vectors of another kind; names it and the setting.
    """
    modes = modes_of(spec)
    if mode is not None and mode not in modes:
        if mode in VECTOR_MODES:
            raise BadInput(f"{setting} {mode}: the vectors of collection '{spec.name}' are {modes[0]}: use {setting} {modes[0]}")
        raise BadInput(
            f"{setting} {mode}: collection '{spec.name}' has no full text: set target.full_text: on, and `kitestring run` builds one"
        )
    return mode or modes[-1]


def answer(
    collection: Collection,
    mode: SearchMode,
    vectors: np.ndarray | None,
    texts: Sequence[str],
    k: int,
    *,
    fusion: Fusion | None = None,
    expression: str = "",
    fields: Iterable[str] = (),
    by_document: bool = False,
) -> list[list[Hit]]:
    """The k best hits of each question. `vectors`: float32 of shape (questions, dim); not needed in mode `text`.

    `by_document`: rows are chunks; only the best chunk of each document is a hit.
    """
    one_of_each = "document" if by_document else None
    if by_document:
        fields = list(dict.fromkeys([*fields, "document"]))

    def ask(k: int) -> list[list[Hit]]:
        return _answer(collection, mode, vectors, texts, k=k, fusion=fusion, expression=expression, fields=fields, one_of_each=one_of_each)

    return best_of_documents(ask, k) if by_document else ask(k)


def _answer(
    collection: Collection,
    mode: SearchMode,
    vectors: np.ndarray | None,
    texts: Sequence[str],
    *,
    k: int,
    fusion: Fusion | None,
    expression: str,
    fields: Iterable[str],
    one_of_each: str | None,
) -> list[list[Hit]]:
    if mode == "text":
        return collection.search_text(texts, k, expression=expression, fields=fields)
    assert vectors is not None
    if mode in VECTOR_MODES:
        return collection.search(vectors, k, expression=expression, fields=fields, one_of_each=one_of_each)
    return collection.search_hybrid(vectors, texts, k, fusion or Fusion(), expression=expression, fields=fields)


def explain(
    collection: Collection, spec: CollectionSpec, hits: Sequence[Hit], vector: np.ndarray | None, text: str | None, *, expression: str = ""
) -> list[Hit]:
    """Add to hits their ranks by meaning and by words, to the depth of a hybrid search; `vector`: float32 of shape (1, dim)."""
    depth = max(CANDIDATES, len(hits))
    nearest = collection.search(vector, depth, expression=expression)[0] if vector is not None else []
    best = collection.search_text([text], depth, expression=expression)[0] if spec.full_text and text else []
    meaning, words = ({hit.id: rank for rank, hit in enumerate(side, 1)} for side in (nearest, best))
    return [hit.model_copy(update={"by_meaning": meaning.get(hit.id), "by_words": words.get(hit.id)}) for hit in hits]
