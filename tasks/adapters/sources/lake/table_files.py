"""Common base of Delta and Iceberg: a snapshot of a table is a set of immutable Parquet files without their deleted rows.

A shard is a range of row groups of a data file, as with plain Parquet. A file's version describes its content in the table: deleting
rows of a file changes its version, and a snapshot that only adds files leaves all other shards unchanged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, JsonValue

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import reading, require_rows
from tasks.adapters.rows.column_types import check_columns
from tasks.adapters.sources.parquet import batch_rows, cut_groups, footer_of, note_fields, open_version
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.domain.digest import digest
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.source import TabularSource
from tasks.domain.shards.shard import FileVersion, RowGroups, Shard, Span
from tasks.domain.strict import Strict

Settings = TypeVar("Settings", bound=TabularSource)
Positions = npt.NDArray[np.int64]  # of rows in a file, sorted, each once
NO_ROWS: Positions = np.array([], np.int64)


class FileState(Strict):
    """A data file's content in the table, which is the file's version in a shard."""

    made: str  # distinguishes the file from another one of the same name
    deleted: str = ""  # digest of its deleted rows
    # Values of wanted columns for the whole file, in a form that Arrow casts to their types.
    partition: Mapping[str, JsonValue] = Field(default_factory=dict)

    @property
    def version(self) -> str:
        return self.made if self == FileState(made=self.made) else self.model_dump_json(exclude_defaults=True)

    @classmethod
    def of(cls, file: FileVersion) -> FileState:
        return cls.model_validate_json(file.version) if file.version.startswith("{") else cls(made=file.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Origin of a column's values in a data file: the file's column of that name, or one value for all rows."""

    column: str | None = None
    constant: pa.Scalar | None = None


class TableFiles(SourceFiles[Settings], Generic[Settings]):
    """The data files of one snapshot of a table; an object reads the same snapshot regardless of later commits."""

    sampled = False

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The snapshot's columns."""

    @abstractmethod
    def data_files(self) -> Iterator[FileVersion]:
        """Yield the data files, sorted by path, with a `FileState` as version."""

    @abstractmethod
    def deleted(self, file: FileVersion) -> Positions:
        """Return the deleted rows of a file; called only if there are some."""

    @abstractmethod
    def origin(self, name: str, file: pa.Schema) -> Origin:
        """Return the origin of a column in a file with this schema; `Origin()`: all null."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        check_columns(self.config.required, self.schema.names, f"table '{self.config.uri}'")
        survey = ColumnSurvey(wanted)
        note_fields(survey, self.schema, "the table")
        return survey

    def spans(self) -> Iterator[Span]:
        counted = ahead(lambda file: (file, self._groups(file)), self.data_files())
        return require_rows((span for file, groups in counted for span in cut_groups(file, groups, self.rows)), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file], extent = shard.span.files, shard.span.extent
        if not isinstance(extent, RowGroups):
            raise TypeError(f"a shard of a table has row groups, not {extent.kind}")
        deleted = self._deleted(file)
        with reading(file.path, "Parquet file"), closing(open_version(file)) as parquet:
            origins = self._origins(file, parquet.schema_arrow)
            begin = sum(parquet.metadata.row_group(group).num_rows for group in range(extent.start))
            for group in range(extent.start, extent.stop):
                for batch in _batches(parquet, group, origins):
                    remaining = _without(batch, deleted, begin)
                    begin += batch.num_rows
                    yield self._as_table(remaining, origins, file)

    def _groups(self, file: FileVersion) -> list[int]:
        """Return the remaining rows of each row group."""
        try:
            with reading(file.path, "Parquet file"):
                footer = footer_of(file)
        except Permanent as error:
            raise BadInput(f"{file.path} is missing, and the table's snapshot needs it: read one that is still complete") from error
        ends = np.cumsum([0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))])
        removed = np.diff(np.searchsorted(self._deleted(file), ends))
        return [int(rows) for rows in np.diff(ends) - removed]

    def _deleted(self, file: FileVersion) -> Positions:
        planned = FileState.of(file).deleted
        if not planned:
            return NO_ROWS
        deleted_rows = self.deleted(file)
        if fingerprint(deleted_rows) != planned:
            raise Permanent(f"rows of {file.path} were deleted from the table while it was being read: run again")
        return deleted_rows

    def _origins(self, file: FileVersion, schema: pa.Schema) -> dict[str, Origin]:
        constants = FileState.of(file).partition
        return {
            name: Origin(constant=constant(constants[name], self.schema.field(name).type))
            if name in constants
            else self.origin(name, schema)
            for name in self.config.columns
            if name in self.schema.names
        }

    def _as_table(self, batch: pa.RecordBatch, origins: dict[str, Origin], file: FileVersion) -> pa.RecordBatch:
        """Convert a batch of the file to the table's current columns and types."""
        fields = [self.schema.field(name) for name in origins]
        columns = [_column(batch, origin, field, file) for origin, field in zip(origins.values(), fields, strict=True)]
        return pa.record_batch(columns, names=list(origins))


def fingerprint(positions: Positions) -> str:
    """Return the digest of a file's deleted rows; "" without any."""
    return digest([int(position) for position in positions])[:16] if len(positions) else ""


def _batches(parquet: pq.ParquetFile, group: int, origins: dict[str, Origin]) -> Iterator[pa.RecordBatch]:
    """Yield the wanted columns of a row group; batches without columns keep their row count."""
    columns = list(dict.fromkeys(origin.column for origin in origins.values() if origin.column is not None))
    size = batch_rows(parquet.metadata.row_group(group), columns)
    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
        yield batch.select(columns) if columns else batch  # 'a.b' is also found under 'a'


def _without(batch: pa.RecordBatch, deleted: Positions, begin: int) -> pa.RecordBatch:
    """Return the rows of a batch that are not deleted.

    Args:
        batch: consecutive rows of a file.
        deleted: positions in the file.
        begin: position of the batch's first row.
    """
    first, stop = np.searchsorted(deleted, [begin, begin + batch.num_rows])
    if first == stop:
        return batch
    keep = np.ones(batch.num_rows, bool)
    keep[deleted[first:stop] - begin] = False
    return batch.filter(pa.array(keep))


def _column(batch: pa.RecordBatch, origin: Origin, field: pa.Field, file: FileVersion) -> pa.Array:
    if origin.column is None:
        value = pa.scalar(None, field.type) if origin.constant is None else origin.constant
        return pa.repeat(value, batch.num_rows)
    values = batch.column(origin.column)
    if values.type == field.type or _is_bytes(values.type):
        return values
    try:
        # Casting nanoseconds loses only digits that the table never had.
        return values.cast(field.type, safe=not pa.types.is_timestamp(field.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        mismatch = f"column '{field.name}' is {values.type} in {file.path} and {field.type} in the table"
        raise BadInput(f"{mismatch}, which cannot be converted: rewrite the file, or leave the column out") from error


def _is_bytes(kind: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's text or bytes types, which rows treat alike."""
    return any(form(kind) for form in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def constant(value: JsonValue, kind: pa.DataType) -> pa.Scalar:
    """Return a value for all rows of a file, in a column's type."""
    if value is None:
        return pa.scalar(None, kind)
    small = isinstance(value, int) and not isinstance(value, bool) and kind.bit_width == 32  # dates: Arrow casts only int32 to them
    return (pa.scalar(value, pa.int32()) if small else pa.scalar(value)).cast(kind)
