"""Delta tables: `deltalake` reads the log; data files are read as plain Parquet without the rows in deletion vectors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field

from tasks.adapters.files.fsspec_files import first_words
from tasks.adapters.sources.lake.table_files import FileState, Origin, Positions, TableFiles, fingerprint
from tasks.adapters.sources.lake.table_location import imported, name_below, plain_place, s3_settings, unreadable
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.credentials import PLACE
from tasks.domain.job.references import SCHEME
from tasks.domain.job.source import SourceKind, TabularSource
from tasks.domain.job.ui_schema import Nothing
from tasks.domain.shards.shard import FileVersion

if TYPE_CHECKING:
    from deltalake import DeltaTable

HONOURED = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "variantType",
    "variantType-preview",
}
S3_NAMES = {
    "endpoint": "aws_endpoint",
    "region": "aws_region",
    "access": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
}
MODE, PHYSICAL = "delta.columnMapping.mode", b"delta.columnMapping.physicalName"


class DeltaSource(TabularSource):
    """A Delta table; row groups of its current data files are the unit of sharding."""

    model_config = ConfigDict(title="Delta table")
    locating: ClassVar[frozenset[str]] = TabularSource.locating | {"version"}

    kind: Literal["delta"] = Field("delta", description="A Delta Lake table.")
    uri: str = Field(
        "table", title="Table", description="The table's folder, with _delta_log in it: local or s3://.", json_schema_extra=PLACE
    )
    version: Annotated[int, Field(title="number")] | Nothing = Field(
        None, title="Version", description="Version of the table to read. Left out: the newest."
    )


class DeltaFiles(TableFiles[DeltaSource]):
    """A Delta table at one version."""

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def data_files(self) -> Iterator[FileVersion]:
        table = pa.table(self._table.get_add_actions())
        typed = table.column("partition").combine_chunks() if "partition" in table.column_names else None
        columns = [name for name in self.config.columns if name in self._table.metadata().partition_columns]
        values = {name: typed.field(name).cast(pa.string()).to_pylist() for name in columns} if typed is not None else {}
        facts = zip(*(table.column(name).to_pylist() for name in ("path", "size_bytes", "modification_time")), strict=True)
        constants = ({name: values[name][at] for name in values} for at in range(table.num_rows))
        listed = (self._file(*fact, partition=partition) for fact, partition in zip(facts, constants, strict=True))
        yield from sorted(listed, key=lambda file: file.path)

    def deleted(self, file: FileVersion) -> Positions:
        if file.path not in self._vectors:
            raise Permanent(f"{file.path} was removed from the table while it was being read: run again")
        return self._vectors[file.path]

    def origin(self, name: str, file: pa.Schema) -> Origin:
        physical = self._physical(self.schema.field(name))
        return Origin(column=physical if physical in file.names else None)

    @cached_property
    def _root(self) -> str:
        return plain_place(self.config.uri)

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema(self._table.schema().to_arrow())

    @cached_property
    def _table(self) -> DeltaTable:
        deltalake: Any = imported("deltalake", "delta")
        try:
            table: DeltaTable = deltalake.DeltaTable(self._root, version=self.config.version, storage_options=_options(self._root))
        except OSError as error:
            raise unreadable(f"Delta table '{self._root}'", error) from error
        except deltalake.exceptions.TableNotFoundError as error:
            raise BadInput(f"there is no Delta table in '{self._root}': correct source.uri") from error
        except deltalake.exceptions.DeltaError as error:
            raise BadInput(f"Delta table '{self._root}' cannot be read: {first_words(error)}") from error
        self._check(table)
        return table

    def _check(self, table: DeltaTable) -> None:
        """Refuse table features that change the meaning of data files and are not supported."""
        unknown = sorted(set(table.protocol().reader_features or []) - HONOURED)
        if unknown:
            raise BadInput(
                f"Delta table '{self._root}' has the table feature '{unknown[0]}', which is not supported: drop it from the table"
            )
        if table.metadata().configuration.get(MODE) == "id":
            raise BadInput(f"Delta table '{self._root}' maps columns by id ({MODE}), which is not supported: set it to 'name'")

    def _physical(self, field: pa.Field) -> str:
        """Return the column's name in data files, which differs if the table maps columns."""
        if any(_renamed(child) for child in _children(field.type)):
            raise BadInput(f"column '{field.name}' of '{self._root}' has fields that are mapped to other names: leave it out")
        return _physical(field)

    def _file(self, logged_path: str, size: int, modified: int, *, partition: dict[str, Any]) -> FileVersion:
        path = self._path(unquote(logged_path))
        state = FileState(made=str(modified), deleted=self._fingerprints.get(path, ""), partition=partition)
        return FileVersion(path=path, name=name_below(self._root, path), size=size, version=state.version)

    def _path(self, path: str) -> str:
        """Return the path of a file in the log: usually relative to the table's folder, absolute in a shallow clone."""
        return plain_place(path) if SCHEME.match(path) else f"{self._root}/{path}"

    @cached_property
    def _vectors(self) -> dict[str, Positions]:
        """Deleted rows by file."""
        batches = pa.RecordBatchReader.from_stream(self._table.deletion_vectors())
        head = f"{'' if '://' in self._root else 'file://'}{self._root}/"
        return {
            self._path(unquote(path.as_py().removeprefix(head))): np.flatnonzero(~np.asarray(keep.values, bool))
            for batch in batches
            for path, keep in zip(batch.column("filepath"), batch.column("selection_vector"), strict=True)
        }

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {path: fingerprint(positions) for path, positions in self._vectors.items()}


def _options(root: str) -> dict[str, str] | None:
    if "://" not in root:
        return None
    options = s3_settings(S3_NAMES)
    return {**options, "allow_http": "true"} if options.get("aws_endpoint", "").startswith("http:") else options


def _children(kind: pa.DataType) -> Iterator[pa.Field]:
    """Yield every field nested in a type."""
    for at in range(kind.num_fields):
        yield kind.field(at)
        yield from _children(kind.field(at).type)


def _renamed(field: pa.Field) -> bool:
    return _physical(field) != str(field.name)


def _physical(field: pa.Field) -> str:
    found: bytes = (field.metadata or {}).get(PHYSICAL, field.name.encode())
    return found.decode()


DELTA = SourceKind(settings=DeltaSource, files=f"{__name__}:DeltaFiles")
