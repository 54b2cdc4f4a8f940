"""Cuts a CSV file into pieces of whole rows, in bounded memory. A quoted newline does not end a row."""

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
    """A sequential stream that can also read into a buffer."""

    def readinto(self, buffer: memoryview, /) -> int: ...


@dataclass(frozen=True)
class CsvPiece:
    """Whole rows.

    Args:
        data: the bytes; empty for a row that is too long.
        structure: quotes of `data`; may extend beyond it.
        line: the number of its first line in the file, from 1.
        too_long: the piece is one row longer than LONGEST_ROW_BYTES.
    """

    data: bytes | memoryview
    structure: CsvStructure
    line: int
    too_long: bool = False

    @cached_property
    def starts(self) -> np.ndarray:
        """Start of each row."""
        return row_starts(self.data, self.structure)

    @cached_property
    def _newlines(self) -> np.ndarray:
        values = np.frombuffer(self.data, np.uint8)
        newlines = np.flatnonzero(values == NEWLINE)
        return newlines if len(newlines) else np.flatnonzero(values == RETURN)

    def line_at(self, position: int) -> int:
        """Return the line number of a byte."""
        return self.line + int(np.searchsorted(self._newlines, position))

    def row_at(self, position: int) -> int:
        """Return the row that contains a byte."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def lines_of(self, row: int) -> str:
        """Describe the lines of a row, for messages."""
        first = self.line_at(self.starts[row])
        stop = self.starts[row + 1] if row + 1 < len(self.starts) else len(self.data)
        last = self.line_at(self.starts[row] + len(bytes(self.data[self.starts[row] : stop]).rstrip(b"\r\n")))
        return f"line {first}" if first == last else f"lines {first} to {last}"


class CsvPieces:
    """Cuts a stream into pieces.

    Args:
        stream: UTF-8, from which `begin` has already been read.
        dialect: dialect of the file.
        path: for messages.
        begin: the first bytes after the header.
        line: the number of their line.
        size: bytes to read at a time.
    """

    def __init__(self, stream: FillingStream, dialect: CsvDialect, path: str, *, begin: bytes, line: int, size: int) -> None:
        self._stream, self._dialect, self._path = stream, dialect, path
        self._rest, self._line, self._size = begin, line, size

    def __iter__(self) -> Iterator[CsvPiece]:
        """Yield all pieces in order.

        Raises:
            BadInput: the file ends inside quotes; names the line where they begin.
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
        """Return the rest with newly read bytes after it, in a buffer of Arrow, whose allocator reuses freed buffers."""
        buffer = memoryview(pa.allocate_buffer(len(self._rest) + self._size)).cast("B")
        buffer[: len(self._rest)] = self._rest
        return buffer[: len(self._rest) + self._stream.readinto(buffer[len(self._rest) :])].toreadonly()

    def _cut(self, data: memoryview, structure: CsvStructure) -> Iterator[CsvPiece]:
        """Yield one piece, or two if the first row is too long."""
        piece = CsvPiece(data, structure, self._line)
        self._line += _lines_in(data)
        if len(data) > LONGEST_ROW_BYTES:
            begin, *others = [*piece.starts[:2], len(data)]
            if others[0] - begin > LONGEST_ROW_BYTES:
                yield CsvPiece(b"", structure, piece.line_at(begin), too_long=True)
                rest = data[others[0] :]
                piece = CsvPiece(rest, structure_of(rest, self._dialect), piece.line_at(others[0]))
        yield piece

    def _skip(self, data: bytes | memoryview, structure: CsvStructure) -> None:
        """Read to the end of a row that is too long, and keep the data after it."""
        opened = self._line
        while True:
            if structure.open_at:  # at 0 it is the quote that was already open
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
    """Return a few bytes that put the parser in the same state as all of `data`, for the rest of the row."""
    quote, escape = dialect.quote.encode(), dialect.escape.encode()
    pending = escape if escape and (len(data) - len(data.rstrip(escape))) % 2 else b""
    if structure.open_at is not None:
        return quote + pending
    if len(structure.edges) and structure.edges[-1] == len(data) - 1:
        return quote + quote  # a third quote would mean that the second did not close
    return b"x" + (pending or (data[-1:] if data.endswith(dialect.delimiter.encode()) else b""))
