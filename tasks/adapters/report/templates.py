"""Renders self-contained pages: no scripts, no network access, all values escaped; for light and dark screens and for print."""

from __future__ import annotations

from pathlib import Path

import jinja2

_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def render(template: str, **values: object) -> str:
    """Render a template of this folder."""
    return sound(_pages.get_template(template).render(values))


def sound(text: str) -> str:
    """Replace lone surrogates and null characters, which a corpus may have, but UTF-8 or browsers refuse."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
