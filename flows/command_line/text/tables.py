"""Tables for a terminal: as a table if it fits, otherwise one field per line."""

from __future__ import annotations

import io
import itertools
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from flows.command_line.process_setup import takes_unicode

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # control characters in rows must not reach the terminal
WIDEST = 120  # maximum columns of a table, and the width of output to a file or a pipe
LEAST_TEXT = 24  # columns of the last cells; with fewer, separate lines are easier to read
BETWEEN = 3  # terminal columns between two table columns


def width_of(stream: TextIO) -> int:
    """Return the number of terminal columns for output to the stream."""
    return min(WIDEST, shutil.get_terminal_size().columns) if stream.isatty() else WIDEST


def table_text(heads: Sequence[str], rows: Iterable[Sequence[str]], *, to: TextIO | None = None, least: int = LEAST_TEXT) -> str:
    """Format cells as a table, without truncation.

    Args:
        heads: names of the columns.
        rows: cells; the last one of each row may hold long text.
        to: the output stream, for its width; default: stdout.
        least: minimum terminal columns of the last cells.
    """
    to = to or sys.stdout
    width, cells = width_of(to), [[CONTROLS.sub("\N{REPLACEMENT CHARACTER}", cell) for cell in row] for row in rows]
    widths = [max(cell_len(line) for cell in column for line in (cell.splitlines() or [""])) for column in zip(heads, *cells, strict=True)]
    needed = sum(widths[:-1]) + min(widths[-1], least) + BETWEEN * (len(widths) - 1)
    if needed <= width:
        return _table(heads, cells, width, to, least=widths[:-1])
    return _table(heads, cells, width, to) if width == WIDEST else _records(heads, cells)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], width: int, to: TextIO, least: Sequence[int] = ()) -> str:
    table = Table(*heads, show_edge=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    for column, columns in itertools.zip_longest(table.columns, least):
        column.overflow, column.min_width = "fold", columns
    encoding = "utf-8" if takes_unicode(to) else "ascii"  # rich chooses its line characters by the encoding
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace", newline="\n")
    Console(file=out, width=width, markup=False, highlight=False).print(table, markup=False)
    out.seek(0)
    return out.read().rstrip()


def _records(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format each row as lines of name and value, with an empty line between rows; the terminal wraps long lines."""
    wide = max(map(cell_len, heads))
    return "\n\n".join("\n".join(_lines(zip(heads, row, strict=True), wide)) for row in rows)


def _lines(record: Iterable[tuple[str, str]], wide: int) -> Iterator[str]:
    for head, cell in record:
        for name, line in zip(itertools.chain([head], itertools.repeat("")), cell.splitlines(), strict=False):
            yield f"{name}{' ' * (wide - cell_len(name))}  {line}"
