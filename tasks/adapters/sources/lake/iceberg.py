"""Iceberg tables: `pyiceberg` reads metadata and manifests; data files are read as plain Parquet without deleted rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from tasks.adapters.sources.lake.iceberg_table import open_table
from tasks.adapters.sources.lake.position_deletes import deleted_rows
from tasks.adapters.sources.lake.table_files import FileState, Origin, Positions, TableFiles, constant, fingerprint
from tasks.adapters.sources.lake.table_location import name_below, unreadable, written_place
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.credentials import PLACE
from tasks.domain.job.source import SourceKind, TabularSource
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.shards.shard import FileVersion

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.schema import Schema
    from pyiceberg.table import DataScan, FileScanTask, Table

FIELD_ID = b"PARQUET:field_id"


class IcebergSource(TabularSource):
    """An Iceberg table; row groups of its current data files are the unit of sharding."""

    model_config = ConfigDict(title="Iceberg table")
    locating: ClassVar[frozenset[str]] = TabularSource.locating | {"snapshot", "catalog"}

    kind: Literal["iceberg"] = Field("iceberg", description="An Apache Iceberg table.")
    uri: str = Field(
        "table",
        title="Table",
        description="The table's folder or its .metadata.json, local or s3://; with a catalog, the table's name there.",
        json_schema_extra=PLACE,
    )
    catalog: Annotated[str, Field(title="name")] | Nothing = Field(
        None,
        title="Catalog",
        description="A catalog of pyiceberg's configuration (.pyiceberg.yaml or PYICEBERG_CATALOG__*), which knows the newest metadata.",
    )
    snapshot: (
        Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value), Field(title="name")] | Nothing
    ) = Field(None, title="Snapshot", description="Snapshot to read: its id, a branch or a tag. Left out: the newest.")


class IcebergFiles(TableFiles[IcebergSource]):
    """An Iceberg table at one snapshot."""

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    @property
    def root(self) -> str:
        """The table's own location with a catalog, where source.uri is only a name."""
        return self._root if self.config.catalog else super().root

    def data_files(self) -> Iterator[FileVersion]:
        yield from sorted((self._file(task) for task in self._tasks.values()), key=lambda file: file.path)

    def deleted(self, file: FileVersion) -> Positions:
        if file.path not in self._tasks:
            raise Permanent(f"{file.path} was removed from the table while it was being read: run again")
        return self._deleted_rows(self._tasks[file.path])

    def origin(self, name: str, file: pa.Schema) -> Origin:
        field = self._columns.find_field(name)
        column_in_file = next((column for column in file if self._id_of(column) == field.field_id), None)
        if column_in_file is not None:
            _check_nested(column_in_file, self.schema.field(name))
            return Origin(column=column_in_file.name)
        return (
            Origin()
            if field.initial_default is None
            else Origin(constant=constant(_plain(field.initial_default), self.schema.field(name).type))
        )

    def _id_of(self, column: pa.Field) -> int | None:
        """Return the field id of a file's column; if the file has none, from the table's name mapping."""
        written = (column.metadata or {}).get(FIELD_ID)
        return int(written) if written is not None else self._mapped.get(column.name)

    @cached_property
    def _mapped(self) -> dict[str, int | None]:
        names = self._table.name_mapping()
        return {name: field.field_id for field in names.root for name in field.names} if names else {}

    @cached_property
    def _table(self) -> Table:
        return open_table(self.config.uri, self.config.catalog)

    @cached_property
    def _root(self) -> str:
        return written_place(self._table.location()).rstrip("/")

    @cached_property
    def _scan(self) -> DataScan:
        wanted, table = self.config.snapshot, self._table
        if wanted is None:
            return table.scan()
        snapshot = table.snapshot_by_name(wanted) or (table.snapshot_by_id(int(wanted)) if wanted.isdecimal() else None)
        if snapshot is None:
            names = ", ".join([*table.refs(), *(str(each.snapshot_id) for each in table.snapshots()[-5:])])
            raise BadInput(f"Iceberg table '{self.config.uri}' has no snapshot '{wanted}': it has {names or 'none'}")
        return table.scan(snapshot_id=snapshot.snapshot_id)

    @cached_property
    def _columns(self) -> Schema:
        return self._scan.projection()

    @cached_property
    def _schema(self) -> pa.Schema:
        return self._columns.as_arrow()

    @cached_property
    def _tasks(self) -> dict[str, FileScanTask]:
        """The planned files, by path."""
        try:
            return {written_place(task.file.file_path): task for task in self._scan.plan_files()}
        except OSError as error:
            raise unreadable(f"Iceberg table '{self._root}'", error) from error
        except ValueError as error:
            problem = (
                "has equality deletes, which are not supported: compact it" if "equality" in str(error) else f"cannot be read: {error}"
            )
            raise BadInput(f"Iceberg table '{self._root}' {problem}") from error

    def _deleted_rows(self, task: FileScanTask) -> Positions:
        return deleted_rows(task.file.file_path, task.delete_files)

    def _file(self, task: FileScanTask) -> FileVersion:
        file, path = task.file, written_place(task.file.file_path)
        if file.file_format.value != "PARQUET":
            raise BadInput(f"{path} is {file.file_format.value}: only tables of Parquet files can be read")
        deleted = fingerprint(self._deleted_rows(task)) if task.delete_files else ""
        state = FileState(made=str(file.record_count), deleted=deleted, partition=self._partition(file))
        return FileVersion(path=path, name=name_below(self._root, path), size=file.file_size_in_bytes, version=state.version)

    def _partition(self, file: DataFile) -> dict[str, JsonValue]:
        """Return the values of wanted identity-partition columns: files added from elsewhere may lack these columns."""
        fields = self._table.specs()[file.spec_id].fields
        identical = {field.source_id: file.partition[at] for at, field in enumerate(fields) if str(field.transform) == "identity"}
        ids = {name: self._columns.find_field(name).field_id for name in self.config.columns if name in self.schema.names}
        return {name: _plain(identical[number]) for name, number in ids.items() if number in identical}


def _plain(value: Any) -> JsonValue:
    """Convert a value to JSON such that Arrow can cast it back: dates and times are integers already, decimals become texts."""
    if isinstance(value, bytes):
        raise BadInput("a partition column of bytes cannot be read: leave it out of source.metadata")
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _check_nested(in_file: pa.Field, wanted: pa.Field) -> None:
    """Refuse a column with renamed, moved or replaced nested fields: Arrow would match them by name."""
    if _inner(in_file.type, in_file.name) - _inner(wanted.type, in_file.name):
        raise BadInput(f"fields within column '{wanted.name}' were renamed or removed after some files were written: rewrite those files")


def _inner(kind: pa.DataType, path: str) -> set[tuple[str, bytes | None]]:
    fields = [kind.field(at) for at in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    nested = {(f"{path}.{field.name}", (field.metadata or {}).get(FIELD_ID)) for field in fields}
    return nested.union(*(_inner(field.type, f"{path}.{field.name}") for field in fields))


ICEBERG = SourceKind(settings=IcebergSource, files=f"{__name__}:IcebergFiles")
