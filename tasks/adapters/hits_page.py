"""Hits as a page that needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from tasks.domain.collection import Hit

_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)
_OWN = ("id", "text")  # shown in a place of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    id: str
    score: str
    text: str
    picture: str | None
    fields: list[tuple[str, str]]


def render_hits(question: str, collection: str, hits: Sequence[Hit], pictures: Mapping[str, bytes], *, asked: bytes | None = None) -> str:
    """The page: no scripts and no network; whatever came from the corpus is escaped, pictures (JPEG, by key) are in it.

    Args:
        question: the words that were searched for, or the name of the picture.
        collection: that was searched.
        hits: the nearest first.
        pictures: of hits.
        asked: the picture that was searched with, a JPEG.
    """
    shown = [_shown(hit, pictures.get(hit.id)) for hit in hits]
    page = _pages.get_template("hits.html").render(
        question=question, asked=_inline(asked), collection=collection, hits=shown, drawn=bool(pictures)
    )
    return page.encode("utf-8", "replace").decode()  # a lone surrogate stands in no file


def _shown(hit: Hit, picture: bytes | None) -> _Shown:
    return _Shown(
        id=hit.id,
        score=f"{hit.score:.4f}",
        text=str(hit.fields.get("text") or ""),
        picture=_inline(picture),
        fields=[(name, str(value)) for name, value in hit.fields.items() if name not in _OWN and value is not None],
    )


def _inline(picture: bytes | None) -> str | None:
    return f"data:image/jpeg;base64,{b64encode(picture).decode()}" if picture else None
