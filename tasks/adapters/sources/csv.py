"""CSV with a header line. A file is a shard: a quoted newline can stand anywhere, so no place is safe to cut at.

Cells come as they are written; an empty cell without quotes is null. They become numbers where a
scalar field wants them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, suppress

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import first_file, hold_still, list_files, open_plain, reading, some
from tasks.adapters.rows.column_types import as_text, check_columns
from tasks.adapters.rows.inferred_types import inexact_number, type_of_strings
from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.line_reader import LINE_NOT_UTF8, rows_in_head
from tasks.adapters.sources.source_files import SAMPLED_BYTES, ColumnSurvey, SourceFiles, spread
from tasks.domain.job.source import CsvSource
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

SUFFIXES = tuple(f"{plain}{packed}" for plain in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))
HEAD = 64 << 10  # bytes that tell the columns and their types
CSV_BLOCK_BYTES = 8 << 20  # bytes parsed at a time; the longest row
SLICE = 8_192  # rows
SAMPLED_BLOCK_BYTES = 1 << 20
SAMPLED_AT_ONCE = 8  # files, of each of which a share of the sample is held


class CsvFiles(SourceFiles[CsvSource]):
    """CSV files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        self._head(first_file(self.config.uri, SUFFIXES))
        survey = ColumnSurvey(wanted)
        if wanted is None or wanted:
            files = spread(survey.listed(list_files(self.config.uri, SUFFIXES)))
            size = SAMPLED_BYTES // max(1, len(files))
            for file, rows in ahead(lambda file: (file, self._sampled(file, survey, size)), files, at_once=SAMPLED_AT_ONCE):
                for column in rows.column_names:
                    _note_cells(survey, column, rows.column(column).combine_chunks(), file)
        return survey

    def spans(self) -> Iterator[Span]:
        return some(self._spans(), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return hold_still(shard.span.files, self._batches(shard))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:  # noqa: ARG002 - it is counted in lines
        return rows_in_head(file, delimiter=self.config.delimiter)

    def _spans(self) -> Iterator[Span]:
        for file, rows in ahead(lambda file: (file, self._head(file).num_rows if file.size else 0), self.files(SUFFIXES)):
            if self.is_read(file, rows):
                yield Span(files=(file,), extent=Whole(), rows=None)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file] = shard.span.files
        with reading(file.path, "CSV file"), closing(open_plain(file.path)) as opened:
            for block in self._rows(opened, self.config.columns, CSV_BLOCK_BYTES):
                for start in range(0, block.num_rows, SLICE):
                    yield _as_text(block.slice(start, SLICE))

    def _head(self, file: FileVersion) -> pa.RecordBatch:
        """The rows of the file's first block, with all columns, as bytes.

        Raises:
            BadInput: unreadable, or a wanted column is missing.
        """
        with reading(file.path, "CSV file"):
            try:
                return self._block(file, HEAD)
            except pa.ArrowInvalid:  # it may be a row longer than the head
                return self._block(file, CSV_BLOCK_BYTES)

    def _sampled(self, file: FileVersion, survey: ColumnSurvey, size: int) -> pa.Table:
        """The wanted cells of the beginning of a file, about `size` bytes of it, as far as it can be read."""
        head = self._head(file)
        wanted = [name for name in head.schema.names if survey.wants(name)]
        blocks = [head.select(wanted)]
        with suppress(pa.ArrowInvalid), closing(open_plain(file.path)) as opened:
            for number, block in enumerate(self._rows(opened, wanted, SAMPLED_BLOCK_BYTES) if wanted else ()):
                blocks = [*blocks, block] if number else [block]
                if (number + 1) * SAMPLED_BLOCK_BYTES >= size:
                    break
        return pa.Table.from_batches(blocks)

    def _block(self, file: FileVersion, size: int) -> pa.RecordBatch:
        with closing(open_plain(file.path)) as opened:
            names = self._rows(opened, None, size).schema.names
        check_columns(self.config.required, names, file.path)
        check_columns((column for column in self.config.scalars if column in names), names, file.path)
        with closing(open_plain(file.path)) as opened:
            rows = self._rows(opened, list(dict.fromkeys(names)), size)
            return next(iter(rows), pa.RecordBatch.from_pylist([], rows.schema))

    def _rows(self, opened: pa.NativeFile, columns: list[str] | None, size: int) -> csv.CSVStreamingReader:
        convert = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
        if columns is not None:  # bytes, not strings: one cell that is not UTF-8 is one bad row, not a bad file
            convert.column_types = dict.fromkeys(columns, pa.binary())
            convert.include_columns = columns
            convert.include_missing_columns = True
        read = csv.ReadOptions(block_size=size, use_threads=False)
        return csv.open_csv(opened, read, csv.ParseOptions(delimiter=self.config.delimiter, newlines_in_values=True), convert)


def _note_cells(survey: ColumnSurvey, column: str, cells: pa.Array, file: FileVersion) -> None:
    values = as_text(cells)[0]
    kind = type_of_strings(values)
    survey.add(column, kind, file.name)
    if kind == "varchar" and (text := inexact_number(values)) is not None:
        told = f"column '{column}' holds '{text}', which a number would not give back: it is stored as text"
        survey.said[column] = f"{told}. Where it is a number, set source.types: {{{column}: double}}"


def _as_text(block: pa.RecordBatch) -> pa.RecordBatch:
    """Cells as strings; a row with a cell that is not UTF-8 has that cell null and the reason set."""
    reasons = pa.nulls(block.num_rows, pa.string())
    columns = []
    for column in block.columns:
        texts, bad = as_text(column)
        columns.append(texts)
        reasons = pc.if_else(bad, LINE_NOT_UTF8, reasons) if bad is not None else reasons
    return pa.record_batch([*columns, reasons], names=[*block.schema.names, REASON_COLUMN])
