"""A CSV file in pieces of whole rows, in bounded memory. A quoted newline ends no row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from tasks.adapters.sources.text_files.csv_structure import CsvDialect, CsvStructure, end_of_rows, row_starts, structure_of
from tasks.adapters.sources.text_files.line_reader import LONGEST_ROW_BYTES, Stream
from tasks.domain.errors import BadInput

CSV_PIECE_BYTES = 2 << 20
NEWLINE, RETURN = b"\n\r"


class FillingStream(Stream, Protocol):
    """What is read in order, also into memory that is there."""

    def readinto(self, buffer: memoryview, /) -> int: ...


@dataclass(frozen=True)
class CsvPiece:
    """Whole rows.

    Args:
        data: their bytes; of a row that is too long, nothing.
        structure: of `data`; may go on behind it.
        line: the number of its first line in the file, from 1.
        too_long: it is one row that is longer than LONGEST_ROW_BYTES.
    """

    data: bytes | memoryview
    structure: CsvStructure
    line: int
    too_long: bool = False

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each row begins."""
        return row_starts(self.data, self.structure)

    @cached_property
    def _newlines(self) -> np.ndarray:
        values = np.frombuffer(self.data, np.uint8)
        found = np.flatnonzero(values == NEWLINE)
        return found if len(found) else np.flatnonzero(values == RETURN)

    def line_at(self, position: int) -> int:
        """The number of the line in which a byte stands."""
        return self.line + int(np.searchsorted(self._newlines, position))

    def row_at(self, position: int) -> int:
        """The row in which a byte stands."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def lines_of(self, row: int) -> str:
        """Where a row stands, in words."""
        first = self.line_at(self.starts[row])
        stop = self.starts[row + 1] if row + 1 < len(self.starts) else len(self.data)
        last = self.line_at(self.starts[row] + len(bytes(self.data[self.starts[row] : stop]).rstrip(b"\r\n")))
        return f"line {first}" if first == last else f"lines {first} to {last}"


class CsvPieces:
    """Cuts a stream.

    Args:
        stream: UTF-8, from which `begin` has been read.
        dialect: its own.
        path: for messages.
        begin: the first bytes behind the header.
        line: the number of their line.
        size: bytes to read at a time.
    """

    def __init__(self, stream: FillingStream, dialect: CsvDialect, path: str, *, begin: bytes, line: int, size: int) -> None:
        self._stream, self._dialect, self._path = stream, dialect, path
        self._rest, self._line, self._size = begin, line, size

    def __iter__(self) -> Iterator[CsvPiece]:
        """Every piece, in order.

        Raises:
            BadInput: the file ends within quotes; names the line on which they begin.
        """
        more = True
        while more:
            data = self._more()
            more = len(data) > len(self._rest)
            structure = structure_of(data, self._dialect)
            if not more and structure.open_at is not None:
                raise self._unclosed(CsvPiece(data, structure, self._line).line_at(structure.open_at))
            stop = end_of_rows(data, structure) if more else len(data)
            self._rest = bytes(data[stop:])
            if stop:
                yield from self._cut(data[:stop], structure)
            elif len(data) > LONGEST_ROW_BYTES:
                yield CsvPiece(b"", structure, self._line, too_long=True)
                self._skip(data, structure)

    def _more(self) -> memoryview:
        """What is left, and what is read behind it: in a buffer of Arrow's, which reuses those that are done."""
        buffer = memoryview(pa.allocate_buffer(len(self._rest) + self._size)).cast("B")
        buffer[: len(self._rest)] = self._rest
        return buffer[: len(self._rest) + self._stream.readinto(buffer[len(self._rest) :])].toreadonly()

    def _cut(self, data: memoryview, structure: CsvStructure) -> Iterator[CsvPiece]:
        """A piece, or two where the first row is too long."""
        piece = CsvPiece(data, structure, self._line)
        self._line += _lines_in(data)
        if len(data) > LONGEST_ROW_BYTES:
            begin, *others = [*piece.starts[:2], len(data)]
            if others[0] - begin > LONGEST_ROW_BYTES:
                yield CsvPiece(b"", structure, piece.line_at(begin), too_long=True)
                behind = data[others[0] :]
                piece = CsvPiece(behind, structure_of(behind, self._dialect), piece.line_at(others[0]))
        yield piece

    def _skip(self, data: bytes | memoryview, structure: CsvStructure) -> None:
        """Read on to the end of a row that is too long; what follows it is kept."""
        opened = self._line
        while True:
            if structure.open_at:  # at 0 it is the one that was open before
                opened = CsvPiece(data, structure, self._line).line_at(structure.open_at)
            self._line += _lines_in(data)
            stand_in = _stand_in(bytes(data), structure, self._dialect)
            more = self._stream.read(self._size)
            if not more and structure.open_at is not None:
                raise self._unclosed(opened)
            data = stand_in + more
            structure = structure_of(data, self._dialect)
            stop = end_of_rows(data, structure) if more else len(data)
            if stop:
                starts = row_starts(data, structure)
                first = int(starts[1]) if len(starts) > 1 else stop
                self._line += _lines_in(data[:first])
                self._rest = data[first:]
                return

    def _unclosed(self, line: int) -> BadInput:
        return BadInput(
            f"{self._path} line {line}: the quote that opens a field here is never closed: close or double it, "
            'or set source.escape (how quotes are escaped) or source.quote ("" for none)'
        )


def _lines_in(data: bytes | memoryview) -> int:
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero(values == NEWLINE) or np.count_nonzero(values == RETURN))


def _stand_in(data: bytes, structure: CsvStructure, dialect: CsvDialect) -> bytes:
    """A few bytes behind which the rest of a row reads as it would behind all of them."""
    quote, escape = dialect.quote.encode(), dialect.escape.encode()
    pending = escape if escape and (len(data) - len(data.rstrip(escape))) % 2 else b""
    if structure.open_at is not None:
        return quote + pending
    if len(structure.edges) and structure.edges[-1] == len(data) - 1:
        return quote + quote  # a third would show that the second did not close
    return b"x" + (pending or (data[-1:] if data.endswith(dialect.delimiter.encode()) else b""))
