"""Parquet: shards are row groups, known from the footers; only wanted columns are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import guard_unchanged, open_file, reading, require_rows
from tasks.adapters.files.tables.table_roots import refuse_tables_above
from tasks.adapters.rows.column_types import check_columns, field_type, plain_type
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.domain.errors import BadInput
from tasks.domain.job.source import ParquetSource
from tasks.domain.shards.shard import FileVersion, RowGroups, Shard, Span

SUFFIXES = (".parquet", ".parq", ".pq")
BATCH_BYTES = 16 << 20  # uncompressed
BATCH_ROWS = 8_192
BUFFER = 1 << 20  # bytes buffered for each column
INT96_UNIT = "us"  # pyarrow's default, nanoseconds, gives wrong years before 1677 and after 2262


class ParquetFiles(SourceFiles[ParquetSource]):
    """Parquet files below a URI; their footers state all types."""

    sampled = False

    def __init__(self, config: ParquetSource, *, rows: int) -> None:
        super().__init__(config, rows=rows)
        self._seen = ColumnSurvey(())

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        refuse_tables_above(self.config.uri)
        self._footer(self.first(SUFFIXES))
        survey = ColumnSurvey(wanted)
        if wanted is None or wanted:
            files = survey.listed(self.listed(SUFFIXES))
            for file, schema in ahead(lambda file: (file, self._schema(file)), (file for file in files if file.size)):
                note_fields(survey, schema, file.name)
        return survey

    def types_now(self, columns: Collection[str]) -> ColumnSurvey:  # noqa: ARG002 - `spans` saw all
        return self._seen

    def spans(self) -> Iterator[Span]:
        self._seen = ColumnSurvey(self.config.scalars)
        counted = ahead(lambda file: (file, self._groups(file)), self.files(SUFFIXES))
        counted = ((file, groups) for file, groups in counted if self.is_read(file, sum(groups)))
        return require_rows((span for file, groups in counted for span in cut_groups(file, groups, self.rows)), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, self._batches(shard))

    def _footer(self, file: FileVersion) -> pq.FileMetaData:
        if file.size == 0:
            raise BadInput(f"{file.path} is not a readable Parquet file: it is empty: replace the file or leave it out")
        with reading(file.path, "Parquet file"), closing(pq.ParquetFile(open_file(file.path))) as parquet:
            names = parquet.schema_arrow.names
            check_columns(self.config.required, names, file.path)
            check_columns((column for column in self.config.scalars if column in names), names, file.path)
            return parquet.metadata

    def _schema(self, file: FileVersion) -> pa.Schema:
        return self._footer(file).schema.to_arrow_schema()

    def _groups(self, file: FileVersion) -> list[int]:
        """Return the rows of each row group; the footer, which may be large, is discarded."""
        footer = self._footer(file)
        if self._seen.wanted:
            note_fields(self._seen, footer.schema.to_arrow_schema(), file.name)
        return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file], extent = shard.span.files, shard.span.extent
        if not isinstance(extent, RowGroups):
            raise TypeError(f"a Parquet shard has row groups, not {extent.kind}")
        with reading(file.path, "Parquet file"), closing(open_version(file)) as parquet:
            columns = [column for column in self.config.columns if column in parquet.schema_arrow.names]
            for group in range(extent.start, extent.stop):
                size = batch_rows(parquet.metadata.row_group(group), columns)
                with reading(f"{file.path} row group {group}", "part of a Parquet file"):
                    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
                        yield batch.select(columns)  # 'a.b' is also found under 'a'


def open_version(file: FileVersion) -> pq.ParquetFile:
    """Open a file with streamed column chunks: reads ahead only a buffer for each column."""
    return pq.ParquetFile(
        open_file(file.path), metadata=footer_of(file), buffer_size=BUFFER, pre_buffer=False, coerce_int96_timestamp_unit=INT96_UNIT
    )


@lru_cache(maxsize=4)
def footer_of(file: FileVersion) -> pq.FileMetaData:
    """Return a file version's footer, cached for recent files: it is large for a file of many shards, and each shard needs it."""
    with closing(pq.ParquetFile(open_file(file.path))) as parquet:
        return parquet.metadata


def note_fields(survey: ColumnSurvey, schema: pa.Schema, where: str) -> None:
    """Record the types of a file or a table."""
    for field in schema:
        if survey.wants(field.name):
            _note_field(survey, field, where)


def _note_field(survey: ColumnSurvey, field: pa.Field, where: str) -> None:
    kind = plain_type(field.type)
    survey.add(field.name, None if pa.types.is_null(kind) else field_type(kind), where)
    if pa.types.is_decimal(kind) and field_type(kind) == "varchar":
        note = f"column '{field.name}' is {kind}, which no number type holds exactly: it is stored as text, and filters compare it as text"
        survey.notes[field.name] = f"{note}. source.types: {{{field.name}: double}} stores rounded numbers"


def batch_rows(group: pq.RowGroupMetaData, columns: list[str]) -> int:
    """Return the rows of a batch of about BATCH_BYTES uncompressed bytes."""
    chunks = (group.column(i) for i in range(group.num_columns))
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
    rows: int = max(1, group.num_rows)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


def cut_groups(file: FileVersion, groups: Iterable[int], rows: int) -> Iterator[Span]:
    """Yield spans of consecutive row groups of up to `rows` rows together; a larger group gets its own span."""
    start = total = group = 0
    for group, more in enumerate(groups):
        if total and total + more > rows:
            yield _span(file, start, group, total)
            start, total = group, 0
        total += more
    if total:
        yield _span(file, start, group + 1, total)


def _span(file: FileVersion, start: int, stop: int, rows: int) -> Span:
    return Span(files=(file,), extent=RowGroups(start=start, stop=stop), rows=rows)
