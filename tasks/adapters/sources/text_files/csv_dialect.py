"""The header and the delimiter of a CSV file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from pyarrow import csv

from tasks.adapters.rows.column_types import check_columns
from tasks.adapters.sources.text_files.csv_structure import CsvDialect
from tasks.domain.errors import BadInput

AUTO = "auto"
DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n", re.IGNORECASE)  # a first line that Excel writes


def without_separator_line(data: bytes) -> tuple[bytes, str | None]:
    """Strip a first line such as `sep=;`. Returns the rest, and the delimiter that it names or None."""
    match = _SEPARATOR_LINE.match(data)
    return (data[match.end() :], match[1].decode(errors="replace")) if match else (data, None)


def find_delimiter(header: bytes, dialect: CsvDialect, wanted: Sequence[str]) -> str:
    """Return the delimiter with which a header has the most wanted columns, then the most columns."""

    def score(delimiter: str) -> tuple[int, int]:
        names = names_in(header, replace(dialect, delimiter=delimiter))
        return len({*wanted} & {*names}), len(names)

    return max(DELIMITERS, key=score)


def check_header(header: bytes, dialect: CsvDialect, wanted: Sequence[str], path: str, *, named: str | None) -> list[str]:
    """Return the columns of a file.

    Args:
        header: the first line.
        dialect: the dialect of the file.
        wanted: required columns.
        path: for messages.
        named: the delimiter in the file's `sep=` line, if any.

    Raises:
        BadInput: a column is missing or occurs twice; names the delimiter if another one fits.
    """
    try:
        names = names_in(header, dialect)
    except UnicodeDecodeError:
        raise BadInput(f"{path}: the header is not UTF-8: set source.encoding, such as cp1252 (Windows) or latin-1") from None
    if not {*wanted} <= {*names}:
        better = named or find_delimiter(header, dialect, wanted)
        if better != dialect.delimiter and {*wanted} <= {*names_in(header, replace(dialect, delimiter=better))}:
            shown = better.replace("\t", "\\t")
            raise BadInput(
                f"{path} has its columns separated by '{shown}', not by '{dialect.delimiter}': set source.delimiter to '{shown}', or to auto"
            )
    check_columns(wanted, names, path)
    return names


def names_in(header: bytes, dialect: CsvDialect) -> list[str]:
    """Return the columns of a header line. Raises UnicodeDecodeError if it is not UTF-8."""
    header.decode()
    if not header.strip(b"\r\n"):
        return []
    read = csv.ReadOptions(use_threads=False, block_size=len(header) + 1)
    names: list[str] = csv.read_csv(pa.BufferReader(header), read, parse_options(dialect)).schema.names
    return names


def parse_options(dialect: CsvDialect, **more: object) -> csv.ParseOptions:
    """Return Arrow's options for a dialect."""
    return csv.ParseOptions(
        delimiter=dialect.delimiter, quote_char=dialect.quote or False, escape_char=dialect.escape or False, newlines_in_values=True, **more
    )
