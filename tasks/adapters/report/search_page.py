"""Renders search hits as a self-contained page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.adapters.report.templates import render
from tasks.domain.job.texts.chunks import CHUNK_FIELD_NAMES
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.collection import Hit

_OWN = ("id", "text")  # shown separately from the other fields


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownHit:
    """A hit, formatted for pages."""

    id: str
    score: str
    text: str
    picture: str | None
    fields: list[tuple[str, str]]
    passage: ChunkContext | None = None


def render_hits(
    question: str,
    collection: str,
    hits: Sequence[Hit],
    pictures: Mapping[str, bytes],
    *,
    asked: bytes | None = None,
    passages: Mapping[str, ChunkContext] | None = None,
) -> str:
    """The page, without scripts or network access; all text from the corpus is escaped, pictures are embedded.

    Args:
        question: the query's words, or the name of the query picture.
        collection: the searched collection.
        hits: the hits, the nearest first.
        pictures: JPEGs of hits, by key.
        asked: the query picture, a JPEG.
        passages: the surrounding text, by key, of hits that are chunks.
    """
    around = passages or {}
    shown = [show_hit(hit.id, hit.score, {**_ranks(hit), **hit.fields}, pictures.get(hit.id), around.get(hit.id)) for hit in hits]
    return render("hits.html", question=question, asked=inline(asked), collection=collection, hits=shown, drawn=bool(pictures))


def _ranks(hit: Hit) -> dict[str, object]:
    return {"rank by meaning": hit.by_meaning, "rank by words": hit.by_words}


def show_hit(key: str, score: float, fields: Mapping[str, object], picture: bytes | None, passage: ChunkContext | None = None) -> ShownHit:
    """Format one hit; `picture`: a JPEG; `passage`: the position of a chunk in its document, and the surrounding text."""
    own = (*_OWN, *CHUNK_FIELD_NAMES) if passage else _OWN
    return ShownHit(
        id=key,
        score=f"{score:.4f}",
        text=str(fields.get("text") or ""),
        picture=inline(picture),
        fields=[(name, str(value)) for name, value in fields.items() if name not in own and value is not None],
        passage=passage,
    )


def inline(picture: bytes | None) -> str | None:
    """A JPEG as a data URL."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}" if picture else None
