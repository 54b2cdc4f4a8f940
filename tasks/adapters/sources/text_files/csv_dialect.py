"""The header of a CSV file, and which delimiter it is written with."""

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
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n", re.IGNORECASE)  # Excel's own first line


def without_separator_line(data: bytes) -> tuple[bytes, str | None]:
    """The bytes behind a first line `sep=;`, and the delimiter that it names; all of them where there is none."""
    found = _SEPARATOR_LINE.match(data)
    return (data[found.end() :], found[1].decode(errors="replace")) if found else (data, None)


def find_delimiter(header: bytes, dialect: CsvDialect, wanted: Sequence[str]) -> str:
    """The delimiter with which a header has most of the wanted columns, then most columns at all."""

    def score(delimiter: str) -> tuple[int, int]:
        names = names_in(header, replace(dialect, delimiter=delimiter))
        return len({*wanted} & {*names}), len(names)

    return max(DELIMITERS, key=score)


def check_header(header: bytes, dialect: CsvDialect, wanted: Sequence[str], path: str, *, named: str | None) -> list[str]:
    """The columns of a file.

    Args:
        header: the first line.
        dialect: the dialect it is read with.
        wanted: columns that must be there.
        path: for messages.
        named: the delimiter that the file itself names.

    Raises:
        BadInput: a column is missing or there twice; says which delimiter it is if another would do.
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
    """The columns that a header line names. Raises UnicodeDecodeError where it is not UTF-8."""
    header.decode()
    if not header.strip(b"\r\n"):
        return []
    read = csv.ReadOptions(use_threads=False, block_size=len(header) + 1)
    names: list[str] = csv.read_csv(pa.BufferReader(header), read, parse_options(dialect)).schema.names
    return names


def parse_options(dialect: CsvDialect, **more: object) -> csv.ParseOptions:
    """The dialect as Arrow has it."""
    return csv.ParseOptions(
        delimiter=dialect.delimiter, quote_char=dialect.quote or False, escape_char=dialect.escape or False, newlines_in_values=True, **more
    )
