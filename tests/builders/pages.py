"""What a browser would make of a page."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page: its tags, its attributes, its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


class Tables(HTMLParser):
    """A page's tables under their headings: `rows[heading]` is a list of rows, each a list of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, list[list[str]]] = {}
        self._heading, self._into = "", ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("h2", "th", "td"):
            self._into = tag
        if tag == "h2":
            self._heading = ""
        elif tag == "tr":
            self.rows.setdefault(self._heading, []).append([])
        elif tag in ("th", "td"):
            self.rows[self._heading][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._into:
            self._into = ""

    def handle_data(self, data: str) -> None:
        if self._into == "h2":
            self._heading += data
        elif self._into:
            self.rows[self._heading][-1][-1] += data
