"""Pages that need nothing but themselves: no scripts, no network, whatever came from outside escaped; light and dark, and for paper."""

from __future__ import annotations

from pathlib import Path

import jinja2

_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
)


def render(template: str, **values: object) -> str:
    """A page from a template of this folder."""
    return sound(_pages.get_template(template).render(values))


def sound(text: str) -> str:
    """Text that UTF-8 can hold and browsers accept: a corpus may have lone surrogates and null characters."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
