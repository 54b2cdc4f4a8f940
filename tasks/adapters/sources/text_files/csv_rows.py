"""Reads the rows of a CSV file in batches. Every row is yielded, in order; an unreadable row has null cells and a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tasks.adapters.rows.column_types import as_text, check_columns
from tasks.adapters.rows.row_schema import REASON_COLUMN, VALID_TEXT
from tasks.adapters.rows.scalars import Problems
from tasks.adapters.sources.text_files.csv_dialect import (
    AUTO,
    check_header,
    find_delimiter,
    parse_options,
    without_separator_line,
)
from tasks.adapters.sources.text_files.csv_doubts import doubtful_fields
from tasks.adapters.sources.text_files.csv_pieces import CSV_PIECE_BYTES, CsvPiece, CsvPieces
from tasks.adapters.sources.text_files.csv_structure import CsvDialect, end_of_rows, row_starts, structure_of
from tasks.adapters.sources.text_files.line_reader import BOM, LONGEST_ROW_BYTES, not_utf8, too_long
from tasks.adapters.sources.text_files.text_stream import TextStream
from tasks.domain.errors import BadInput
from tasks.domain.job.source import CsvSource

HEADER_WINDOW = 16 << 10  # bytes; nearly every header is shorter
_NOT_EMPTY = re.compile(rb"[^\r\n]")


def count_rows(data: bytes, config: CsvSource) -> int:
    """Count the rows in the beginning of a file, including the last one and without the header."""
    dialect = _dialect_of(config)
    if config.delimiter == AUTO:
        dialect = replace(dialect, delimiter=find_delimiter(data.split(b"\n", 1)[0].removeprefix(BOM), dialect, config.required))
    return len(row_starts(data, structure_of(data, dialect))) - 1


def _dialect_of(config: CsvSource) -> CsvDialect:
    delimiter = "," if config.delimiter == AUTO else config.delimiter
    return CsvDialect(delimiter=delimiter, quote=config.quote, escape=config.escape if config.escape != config.quote else "")


class CsvRows:
    """An open file, read up to its header.

    Args:
        path: path of the file.
        config: the job's source.
        size: bytes to read at a time.

    Attributes:
        names: its columns; empty if the file has no line.
        doubtful: number of fields read so far that look like rows.
        first_doubtful: the lines of the first one.

    Raises:
        BadInput: it is not text, lacks columns, or has another delimiter.
    """

    def __init__(self, path: str, config: CsvSource, *, size: int = CSV_PIECE_BYTES) -> None:
        self._path, self._config, self._size = path, config, size
        self.doubtful, self.first_doubtful = 0, ""
        self._stream = TextStream(path, config.encoding, "CSV file")
        try:
            self._begin()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def _begin(self) -> None:
        config = self._config
        self.dialect = _dialect_of(config)
        head = self._stream.read(self._size).removeprefix(BOM)
        data, named = without_separator_line(head)
        header, rest = self._header(data)
        if config.delimiter == AUTO:
            self.dialect = replace(self.dialect, delimiter=named or find_delimiter(header, self.dialect, config.required))
        self.names = check_header(header, self.dialect, config.required, self._path, named=named) if header.strip() else []
        check_columns((column for column in config.scalars if column in self.names), self.names, self._path)
        line = 1 + (head is not data) + header.count(b"\n" if b"\n" in header else b"\r")
        self._pieces = CsvPieces(self._stream, self.dialect, self._path, begin=rest, line=line, size=self._size)

    def _header(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the header, including empty lines before it, and the data after it."""
        more = b"more"
        begin = row_starts(data[:HEADER_WINDOW], structure_of(data[:HEADER_WINDOW], self.dialect))
        if len(begin) > 1:
            return data[: begin[1]], data[begin[1] :]
        while True:
            structure = structure_of(data, self.dialect)
            starts = row_starts(data, structure)
            if len(starts) > 1:
                return data[: starts[1]], data[starts[1] :]
            if not more or (len(starts) and end_of_rows(data, structure)):
                return data, b""
            if len(data) > LONGEST_ROW_BYTES:
                raise BadInput(f"{self._path}: the header is longer than {LONGEST_ROW_BYTES} bytes: is it a CSV file?")
            more = self._stream.read(self._size)
            data += more

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield these columns as strings, null if missing in the file, and the reasons of unreadable rows. Raises BadInput for unclosed quotes."""
        wanted = {name: f"{self.names.index(name) if name in self.names else -1}" for name in columns}
        for piece in self._pieces if self.names else ():
            if piece.too_long:
                yield _texts(
                    pa.record_batch([pa.nulls(1, pa.binary()) for _ in columns], names=[*columns]), {0: too_long(f"line {piece.line}")}
                )
            elif _NOT_EMPTY.search(piece.data):
                yield self._batch(piece, wanted)

    def _batch(self, piece: CsvPiece, wanted: dict[str, str]) -> pa.RecordBatch:
        ragged: list[csv.InvalidRow] = []
        cells = self._cells(piece, list(dict.fromkeys(wanted.values())), ragged).select([*wanted.values()]).rename_columns([*wanted])
        reasons: Problems = {}
        self._note_doubts(piece, cells.num_rows + len(ragged))
        lines = np.arange(cells.num_rows)  # row of the piece for each batch row
        if ragged:
            bad = {row.number - 1: row for row in ragged if not row.text.isspace()}
            lines = np.setdiff1d(np.arange(cells.num_rows + len(ragged)), [row.number - 1 for row in ragged if row.text.isspace()])
            cells, reasons = _with_gaps(cells, np.flatnonzero(np.isin(lines, [*bad]))), self._ragged(bad, lines, piece)
        for position in piece.structure.torn:
            if position < len(piece.data):
                row = piece.row_at(position)
                reasons[int(np.searchsorted(lines, row))] = self._torn(piece, row, position)
        return _texts(cells, reasons, lambda at: piece.lines_of(lines[at]))

    def _cells(self, piece: CsvPiece, columns: list[str], ragged: list[csv.InvalidRow]) -> pa.RecordBatch:
        """Return the rows with as many fields as the header; appends the other rows to `ragged`."""

        def skip(row: csv.InvalidRow) -> str:
            ragged.append(row)
            return "skip"

        read = csv.ReadOptions(use_threads=False, block_size=len(piece.data) + 1, column_names=[str(i) for i in range(len(self.names))])
        convert = csv.ConvertOptions(
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            column_types=dict.fromkeys(columns, pa.binary()),  # not strings: a cell that is not UTF-8 makes one bad row, not a bad file
            include_columns=columns,
            include_missing_columns=True,
        )
        options = parse_options(self.dialect, invalid_row_handler=skip)
        [batch] = csv.read_csv(pa.BufferReader(piece.data), read, options, convert).combine_chunks().to_batches() or [None]
        return batch if batch is not None else pa.record_batch([pa.nulls(0, pa.binary()) for _ in columns], names=columns)

    def _note_doubts(self, piece: CsvPiece, rows: int) -> None:
        delimiter = self.dialect.delimiter.encode()
        for at in doubtful_fields(piece.data, piece.structure, rows=rows, columns=len(self.names), delimiter=delimiter):
            self.doubtful += 1
            self.first_doubtful = self.first_doubtful or piece.lines_of(piece.row_at(at))

    def _ragged(self, bad: dict[int, csv.InvalidRow], lines: np.ndarray, piece: CsvPiece) -> Problems:
        return {
            int(
                np.searchsorted(lines, at)
            ): f"ragged: {piece.lines_of(at)}: {row.actual_columns} fields, and the header has {row.expected_columns}"
            for at, row in bad.items()
        }

    def _torn(self, piece: CsvPiece, row: int, position: int) -> str:
        escaped = bytes(piece.data[position - 2 : position]) == b"\\" + self.dialect.quote.encode()
        cure = r": is a quote escaped by \? Set source.escape" if escaped else ""
        return f"broken quotes: {piece.lines_of(row)}: text follows a closing quote{cure}"


def _with_gaps(cells: pa.RecordBatch, gaps: np.ndarray) -> pa.RecordBatch:
    """Insert rows of nulls at these positions of the result."""
    rows = cells.num_rows + len(gaps)
    empty = np.isin(np.arange(rows), gaps)
    return cells.take(pa.array(np.cumsum(~empty) - 1, mask=empty))


def _texts(cells: pa.RecordBatch, reasons: Problems, describe_place: Callable[[int], str] = str) -> pa.RecordBatch:
    """Convert cells to strings; a cell that is not UTF-8 becomes null, and its row gets a reason."""
    columns = []
    for column in cells.columns:
        texts, invalid = as_text(column)
        columns.append(texts)
        for at in np.flatnonzero(invalid) if invalid is not None else ():
            reasons.setdefault(int(at), not_utf8(describe_place(int(at))))
    reason_column = (
        pa.array([reasons.get(at) for at in range(cells.num_rows)], pa.string()) if reasons else pa.nulls(cells.num_rows, pa.string())
    )
    fields = [pa.field(name, pa.string(), metadata=VALID_TEXT) for name in cells.schema.names]
    return pa.record_batch([*columns, reason_column], schema=pa.schema([*fields, pa.field(REASON_COLUMN, pa.string())]))
