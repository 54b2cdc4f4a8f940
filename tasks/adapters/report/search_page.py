"""Hits as a page that needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.adapters.report.templates import render
from tasks.domain.job.texts.chunks import CHUNK_FIELD_NAMES
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.collection import Hit

_OWN = ("id", "text")  # shown in a place of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownHit:
    """A hit as pages show it."""

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
    """The page: no scripts and no network; whatever came from the corpus is escaped, pictures (JPEG, by key) are in it.

    Args:
        question: the words that were searched for, or the name of the picture.
        collection: that was searched.
        hits: the nearest first.
        pictures: of hits.
        asked: the picture that was searched with, a JPEG.
        passages: by key, what stands around hits that are chunks.
    """
    around = passages or {}
    shown = [show_hit(hit.id, hit.score, {**_ranks(hit), **hit.fields}, pictures.get(hit.id), around.get(hit.id)) for hit in hits]
    return render("hits.html", question=question, asked=inline(asked), collection=collection, hits=shown, drawn=bool(pictures))


def _ranks(hit: Hit) -> dict[str, object]:
    return {"rank by meaning": hit.by_meaning, "rank by words": hit.by_words}


def show_hit(key: str, score: float, fields: Mapping[str, object], picture: bytes | None, passage: ChunkContext | None = None) -> ShownHit:
    """One hit; `picture`: a JPEG; `passage`: where its text is in its document."""
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
    """A JPEG as an address that holds it."""
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}" if picture else None
