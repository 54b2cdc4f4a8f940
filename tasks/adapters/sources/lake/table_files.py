"""What Delta and Iceberg have in common: a snapshot of a table is a set of Parquet files that never change, less deleted rows.

A shard is a range of row groups of a data file, as with plain Parquet. A file's version says what of the file is in the table, so
that it is known anew when rows of it are deleted, and a snapshot that only adds files leaves the shards of all others as they are.
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
    """What of a data file is in the table: a shard's file has it as its version."""

    made: str  # distinguishes the file from another of its name
    deleted: str = ""  # digest of the rows that are deleted from it
    partition: Mapping[str, JsonValue] = Field(
        default_factory=dict
    )  # values of wanted columns for the whole file, in a form that Arrow casts to their types

    @property
    def version(self) -> str:
        return self.made if self == FileState(made=self.made) else self.model_dump_json(exclude_defaults=True)

    @classmethod
    def of(cls, file: FileVersion) -> FileState:
        return cls.model_validate_json(file.version) if file.version.startswith("{") else cls(made=file.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a column's values in a data file come from: the file's column of that name, or one value for all rows."""

    column: str | None = None
    constant: pa.Scalar | None = None


class TableFiles(SourceFiles[Settings], Generic[Settings]):
    """The data files of one snapshot of a table; each object reads one, whatever is committed meanwhile."""

    sampled = False

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """The snapshot's columns."""

    @abstractmethod
    def data_files(self) -> Iterator[FileVersion]:
        """Its data files, sorted by path, with a `FileState` as version."""

    @abstractmethod
    def deleted(self, file: FileVersion) -> Positions:
        """Rows of a file that the snapshot leaves out; asked only where there are some."""

    @abstractmethod
    def origin(self, name: str, file: pa.Schema) -> Origin:
        """Where a column comes from in a file with this schema; `Origin()`: it is null throughout."""

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
                    kept = _without(batch, deleted, begin)
                    begin += batch.num_rows
                    yield self._as_table(kept, origins, file)

    def _groups(self, file: FileVersion) -> list[int]:
        """Rows of each row group that are left."""
        try:
            with reading(file.path, "Parquet file"):
                footer = footer_of(file)
        except Permanent as error:
            raise BadInput(f"{file.path} is missing, and the table's snapshot needs it: read one that is still complete") from error
        ends = np.cumsum([0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))])
        gone = np.diff(np.searchsorted(self._deleted(file), ends))
        return [int(rows) for rows in np.diff(ends) - gone]

    def _deleted(self, file: FileVersion) -> Positions:
        planned = FileState.of(file).deleted
        if not planned:
            return NO_ROWS
        found = self.deleted(file)
        if fingerprint(found) != planned:
            raise Permanent(f"rows of {file.path} were deleted from the table while it was being read: run again")
        return found

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
        """A batch of the file as rows of the table: its columns in the types that they have now."""
        fields = [self.schema.field(name) for name in origins]
        columns = [_column(batch, origin, field, file) for origin, field in zip(origins.values(), fields, strict=True)]
        return pa.record_batch(columns, names=list(origins))


def fingerprint(positions: Positions) -> str:
    """Digest of rows that are deleted from a file; "" where there are none."""
    return digest([int(position) for position in positions])[:16] if len(positions) else ""


def _batches(parquet: pq.ParquetFile, group: int, origins: dict[str, Origin]) -> Iterator[pa.RecordBatch]:
    """A row group's columns that are wanted; batches without a column still have their rows."""
    columns = list(dict.fromkeys(origin.column for origin in origins.values() if origin.column is not None))
    size = batch_rows(parquet.metadata.row_group(group), columns)
    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
        yield batch.select(columns) if columns else batch  # 'a.b' is also found under 'a'


def _without(batch: pa.RecordBatch, deleted: Positions, begin: int) -> pa.RecordBatch:
    """The rows of a batch that are not deleted.

    Args:
        batch: consecutive rows of a file.
        deleted: positions in the file.
        begin: of the batch's first row.
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
        return values.cast(field.type, safe=not pa.types.is_timestamp(field.type))  # nanoseconds lose what the table never had
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        words = f"column '{field.name}' is {values.type} in {file.path} and {field.type} in the table"
        raise BadInput(f"{words}, which cannot be converted: rewrite the file, or leave the column out") from error


def _is_bytes(kind: pa.DataType) -> bool:
    """Text or bytes in any of Arrow's forms, which rows are made from alike."""
    return any(form(kind) for form in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def constant(value: JsonValue, kind: pa.DataType) -> pa.Scalar:
    """A value of a whole file, in a column's type."""
    if value is None:
        return pa.scalar(None, kind)
    small = isinstance(value, int) and not isinstance(value, bool) and kind.bit_width == 32  # days: Arrow casts int32 alone to them
    return (pa.scalar(value, pa.int32()) if small else pa.scalar(value)).cast(kind)
