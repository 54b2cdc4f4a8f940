"""CSV with a header line. A file is one shard: a quoted newline can occur anywhere, so no cut is safe.

Cells are read as text; an empty cell without quotes is null. Scalar fields of a numeric type convert them later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, suppress

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import guard_unchanged, reading, require_rows
from tasks.adapters.files.compression import with_packed
from tasks.adapters.rows.batch_findings import with_findings
from tasks.adapters.rows.column_types import as_text
from tasks.adapters.rows.inferred_types import inexact_number, type_of_strings
from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.source_files import SAMPLED_BYTES, ColumnSurvey, SourceFiles, spread
from tasks.adapters.sources.text_files.csv_doubts import DOUBTFUL
from tasks.adapters.sources.text_files.csv_rows import CsvRows, count_rows
from tasks.adapters.sources.text_files.line_reader import LINE_NOT_UTF8, not_utf8_file, rows_in_head
from tasks.domain.errors import BadInput
from tasks.domain.job.source import CsvSource
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

SUFFIXES = with_packed(".csv", ".tsv")
HEAD = 64 << 10  # bytes from which columns and their types are inferred
SLICE = 16_384  # rows of a batch at most
SAMPLED_BLOCK_BYTES = 1 << 20
SAMPLED_AT_ONCE = 8  # files; memory holds the sample of each


class CsvFiles(SourceFiles[CsvSource]):
    """CSV files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        file = self.first(SUFFIXES)
        if self._head(file).schema.names == [REASON_COLUMN]:
            raise BadInput(f"{file.path} is not a readable CSV file: it has no header line: replace the file or leave it out")
        survey = ColumnSurvey(wanted)
        if wanted is None or wanted:
            files = spread(survey.listed(self.listed(SUFFIXES)))
            size = SAMPLED_BYTES // max(1, len(files))
            for file, rows in ahead(lambda file: (file, self._sample(file, survey, size)), files, at_once=SAMPLED_AT_ONCE):
                for column in rows.column_names:
                    _note_cells(survey, column, rows.column(column).combine_chunks(), file)
        return survey

    def spans(self) -> Iterator[Span]:
        return require_rows(self._spans(), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, self._batches(shard))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:  # noqa: ARG002 - counts lines instead
        return rows_in_head(file, self.config.encoding, lambda data: count_rows(data, self.config))

    def _spans(self) -> Iterator[Span]:
        for file, (head, findings) in ahead(lambda file: (file, self._read_head(file) if file.size else (None, ())), self.files(SUFFIXES)):
            self.found.extend(findings)
            if self.is_read(file, head.num_rows if head else 0):
                yield Span(files=(file,), extent=Whole(), rows=None)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file] = shard.span.files
        with reading(file.path, "CSV file"), closing(CsvRows(file.path, self.config)) as opened:
            for batch in opened.batches(self.config.columns):
                rows = -(-batch.num_rows // max(1, -(-batch.num_rows // SLICE)))
                for start in range(0, batch.num_rows, rows or 1):
                    yield batch.slice(start, rows)
            if opened.doubtful:
                yield with_findings(batch, _doubtful_finding(opened, file))

    def _head(self, file: FileVersion) -> pa.RecordBatch:
        return self._read_head(file)[0]

    def _read_head(self, file: FileVersion) -> tuple[pa.RecordBatch, tuple[Finding, ...]]:
        """Return the rows at the beginning of the file, with all columns, and findings about them.

        Raises:
            BadInput: unreadable, or a wanted column is missing.
        """
        with reading(file.path, "CSV file"), closing(CsvRows(file.path, self.config, size=HEAD)) as opened:
            names = list(dict.fromkeys(opened.names))
            no_rows = pa.record_batch([pa.nulls(0, pa.string()) for _ in (*names, REASON_COLUMN)], names=[*names, REASON_COLUMN])
            head = next((batch for batch in opened.batches(names) if batch.num_rows), no_rows)
            return head, (*_doubtful_finding(opened, file), *_undecoded_finding(head, file))

    def _sample(self, file: FileVersion, survey: ColumnSurvey, size: int) -> pa.Table:
        """Return the wanted cells of about the first `size` bytes of a file, as far as it can be read."""
        head = self._head(file)
        wanted = [name for name in head.schema.names if name != REASON_COLUMN and survey.wants(name)]
        blocks = [head.select(wanted)]
        with (
            suppress(BadInput),
            reading(file.path, "CSV file"),
            closing(CsvRows(file.path, self.config, size=SAMPLED_BLOCK_BYTES)) as opened,
        ):
            for number, block in enumerate(opened.batches(wanted) if wanted else ()):
                blocks = [*(blocks if number else ()), block.select(wanted)]
                if (number + 1) * SAMPLED_BLOCK_BYTES >= size:
                    break
        return pa.Table.from_batches(blocks)


def _doubtful_finding(opened: CsvRows, file: FileVersion) -> tuple[Finding, ...]:
    example = f"{file.name} {opened.first_doubtful}"
    return (Finding(what=DOUBTFUL, count=opened.doubtful, example=example),) if opened.doubtful else ()


def _undecoded_finding(head: pa.RecordBatch, file: FileVersion) -> tuple[Finding, ...]:
    reasons = (reason.split(": ") for reason in head.column(REASON_COLUMN).drop_null().to_pylist())
    return next(((not_utf8_file(file.name, reason[1]),) for reason in reasons if reason[0] == LINE_NOT_UTF8), ())


def _note_cells(survey: ColumnSurvey, column: str, cells: pa.Array, file: FileVersion) -> None:
    values = as_text(cells)[0]
    kind = type_of_strings(values)
    survey.add(column, kind, file.name)
    if kind == "varchar" and (text := inexact_number(values)) is not None:
        note = f"column '{column}' holds '{text}', which would not round-trip as a number: it is stored as text"
        survey.notes[column] = f"{note}. If it is a number, set source.types: {{{column}: double}}"
