"""Finds the quoted fields and rows in a piece of CSV.

Uses the rules of Arrow's reader: a quote opens a field if it is its first character, a doubled quote inside is a literal quote,
and text between a closing quote and the delimiter belongs to the value, too. RFC 4180 does not allow such text: it shows that
a quote was meant literally, or is escaped in another way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

NEWLINES = b"\r\n"
NEWLINE_WINDOW_BYTES = 64 << 10  # nearly every piece has its last newline in its last 64 KiB


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvDialect:
    """Single ASCII characters. "" disables quotes or escapes."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""


@dataclass(frozen=True, slots=True)
class CsvStructure:
    """The structure of bytes that begin with a row.

    Attributes:
        edges: positions of opening and closing quotes, alternating; an odd number if the last field is not closed.
        torn: positions of text after a closing quote.
        escaped: positions of escaped newlines outside of quotes, which belong to a value.
    """

    edges: np.ndarray
    torn: list[int] = field(default_factory=list)
    escaped: list[int] = field(default_factory=list)

    @property
    def open_at(self) -> int | None:
        """Position of the unclosed quote, or None."""
        return int(self.edges[-1]) if len(self.edges) % 2 else None


def structure_of(data: bytes | memoryview, dialect: CsvDialect) -> CsvStructure:
    """Find the quoted fields; vectorized if all quotes conform to RFC 4180, else one by one."""
    values = np.frombuffer(data, np.uint8)
    if dialect.escape and (values == ord(dialect.escape)).any():
        return _with_escapes(bytes(data), dialect)
    is_quote = values == ord(dialect.quote or "\0")
    if not dialect.quote or not is_quote.any():
        return CsvStructure(np.empty(0, np.int64))
    return _regular(values, np.flatnonzero(is_quote), dialect) or _one_by_one(bytes(data), dialect)


def end_of_rows(data: bytes | memoryview, structure: CsvStructure) -> int:
    """Return the end of the last whole row, after its newline; 0 if there is none."""
    # A \r at the very end may be the first half of a newline.
    return _last(data, b"\n", len(data), structure) or _last(data, b"\r", len(data) - 1, structure)


def row_starts(data: bytes | memoryview, structure: CsvStructure) -> np.ndarray:
    """Return the start of each row. Empty lines are not rows."""
    values = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero((values == NEWLINES[0]) | (values == NEWLINES[1]))
    if len(structure.edges):
        ends = ends[np.searchsorted(structure.edges, ends) % 2 == 0]
    if structure.escaped:
        ends = ends[~np.isin(ends, structure.escaped)]
    starts: np.ndarray = np.concatenate([[0], ends + 1])
    not_empty: np.ndarray = starts != np.append(ends, len(data))
    return np.compress(not_empty, starts)


def _last(data: bytes | memoryview, newline: bytes, stop: int, structure: CsvStructure) -> int:
    escaped = set(structure.escaped)
    while (at := _rfind(data, newline, max(0, stop))) >= 0:
        before = int(np.searchsorted(structure.edges, at))
        if before % 2 == 0 and at not in escaped:
            return at + 1
        stop = int(structure.edges[before - 1]) if before % 2 else at
    return 0


def _rfind(data: bytes | memoryview, byte: bytes, stop: int) -> int:
    """Return the last position of a byte before `stop`, or -1."""
    while stop > 0:
        begin = max(0, stop - NEWLINE_WINDOW_BYTES)
        if (at := bytes(data[begin:stop]).rfind(byte)) >= 0:
            return begin + at
        stop = begin
    return -1


def _regular(values: np.ndarray, quotes: np.ndarray, dialect: CsvDialect) -> CsvStructure | None:
    """Return the structure if quotes simply alternate: openings follow a delimiter, newline or quote, and closings precede one; else None."""
    around = np.zeros(256, bool)
    around[list(_borders(dialect) + dialect.quote.encode())] = True
    opening, closing = quotes[::2], quotes[1::2]
    before, after = opening[opening > 0] - 1, closing[closing < len(values) - 1] + 1
    fits = around[values[before]].all() and around[values[after]].all()
    return CsvStructure(quotes) if fits else None


def _borders(dialect: CsvDialect) -> bytes:
    return dialect.delimiter.encode() + NEWLINES


def _one_by_one(data: bytes, dialect: CsvDialect) -> CsvStructure:
    quote, borders = dialect.quote.encode(), _borders(dialect)
    edges: list[int] = []
    torn: list[int] = []
    at = data.find(quote)
    while at >= 0:
        close = at
        if at == 0 or data[at - 1] in borders:
            edges.append(at)
            close = _closing(data, at + 1, quote)
            if close < 0:
                break
            edges.append(close)
            if _is_torn(data, close + 1, borders):
                torn.append(close + 1)
        at = data.find(quote, close + 1)
    return CsvStructure(np.array(edges, np.int64), torn)


def _closing(data: bytes, at: int, quote: bytes) -> int:
    """Return the position of the quote that closes a field whose text begins here, or -1."""
    while (at := data.find(quote, at)) >= 0 and data[at + 1 : at + 2] == quote:
        at += 2
    return at


def _is_torn(data: bytes, at: int, borders: bytes) -> bool:
    """Return whether there is text other than blanks between a closing quote and the end of its field."""
    while data[at : at + 1] in {b" ", b"\t"} and data[at] not in borders:
        at += 1
    return at < len(data) and data[at] not in borders


def _with_escapes(data: bytes, dialect: CsvDialect) -> CsvStructure:
    marks = [re.escape(dialect.escape.encode()) + b".", *([re.escape(dialect.quote.encode())] if dialect.quote else [])]
    return _EscapedWalk(data, dialect).over(re.compile(b"|".join(marks), re.DOTALL))


class _EscapedWalk:
    """Steps from one escape or quote to the next."""

    def __init__(self, data: bytes, dialect: CsvDialect) -> None:
        self.data, self.borders = data, _borders(dialect)
        self.escape, self.quote = dialect.escape.encode(), dialect.quote.encode()
        self.edges: list[int] = []
        self.torn: list[int] = []
        self.newlines: list[int] = []
        self._free = 0  # bytes before it are no borders: escaped or already processed

    def over(self, pattern: re.Pattern[bytes]) -> CsvStructure:
        for mark in pattern.finditer(self.data):
            at, inside = mark.start(), len(self.edges) % 2 == 1
            if mark[0][:1] == self.escape:
                self._free = at + 2
                if not inside and self.data[at + 1] in NEWLINES:
                    self.newlines.append(at + 1)
            elif inside:
                self._close(at)
            elif at == 0 or (self.data[at - 1] in self.borders and at > self._free):
                self.edges.append(at)
                self._free = at + 1
        return CsvStructure(np.array(self.edges, np.int64), self.torn, self.newlines)

    def _close(self, at: int) -> None:
        if self.data[at + 1 : at + 2] == self.quote and at >= self._free:
            self._free = at + 2  # the first of two: skip the second
        elif at >= self._free:
            self.edges.append(at)
            if _is_torn(self.data, at + 1, self.borders):
                self.torn.append(at + 1)
