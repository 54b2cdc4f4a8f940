"""Questions to a collection by meaning, by words, or by both."""

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


def modes_of(made: CollectionSpec) -> tuple[SearchMode, ...]:
    """In which ways a collection can be searched; the last is the one that a search takes by itself."""
    vectors = vector_mode(made)
    return (vectors, "text", "hybrid") if made.full_text else (vectors,)


def vector_mode(made: CollectionSpec) -> SearchMode:
    """Search by the vectors of a collection."""
    return "sparse" if made.sparse else "dense"


def check_mode(made: CollectionSpec, mode: SearchMode | None, setting: str) -> SearchMode:
    """The way that is meant; None: what there is.

    Raises:
        BadInput: the collection has no full text, or vectors of another kind; names it, and the setting that asks for it.
    """
    there = modes_of(made)
    if mode is not None and mode not in there:
        if mode in VECTOR_MODES:
            raise BadInput(f"{setting} {mode}: the vectors of collection '{made.name}' are {there[0]}: use {setting} {there[0]}")
        raise BadInput(
            f"{setting} {mode}: collection '{made.name}' has no full text: set target.full_text: on, and `kitestring run` builds one"
        )
    return mode or there[-1]


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
    """The k best of each question. `vectors`: float32 of shape (questions, dim); by words alone none are needed.

    `by_document`: rows are chunks, and the best of each document is wanted.
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
    collection: Collection, made: CollectionSpec, hits: Sequence[Hit], vector: np.ndarray | None, text: str | None, *, expression: str = ""
) -> list[Hit]:
    """Hits with the rank that each has by meaning and by words, as far as a hybrid search looks; `vector`: float32 of shape (1, dim)."""
    depth = max(CANDIDATES, len(hits))
    nearest = collection.search(vector, depth, expression=expression)[0] if vector is not None else []
    best = collection.search_text([text], depth, expression=expression)[0] if made.full_text and text else []
    meaning, words = ({hit.id: rank for rank, hit in enumerate(side, 1)} for side in (nearest, best))
    return [hit.model_copy(update={"by_meaning": meaning.get(hit.id), "by_words": words.get(hit.id)}) for hit in hits]
