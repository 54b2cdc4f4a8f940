"""The scalar fields of a job's metadata: declared by the job, else recorded by earlier runs of the corpus, else inferred from files.

Types and names are determined once for a corpus and encoder and recorded, since sealed parts and the collection have them. Later files
with other types do not change them; a note says what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any

import pyarrow as pa

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import read_part
from tasks.adapters.rows.inferred_types import spoken, wider
from tasks.adapters.rows.row_schema import ARROW_TYPES
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain.errors import KitestringError
from tasks.domain.job.source import SourceSettings
from tasks.domain.job.texts.chunks import CHUNK_FIELD_NAMES
from tasks.domain.ports import Target
from tasks.domain.shards.layout import part_rows
from tasks.domain.target.collection import collection_name
from tasks.domain.target.fields import FieldType, ScalarField, SettledColumns, SourceField, name_fields, plain_name

PARTS_READ = 20  # the most parts of an older version that are searched for the columns
HOLD_ANYTHING = ("varchar", "json")


def settle_fields(source: SourceFiles[Any], known: SettledColumns | None) -> tuple[SourceField, ...]:
    """The fields of a job's metadata, in the job's order.

    Raises:
        BadInput: a column of unknown type is in no file.
    """
    config: SourceSettings = source.config
    before = known or SettledColumns(types={}, names={})
    declared, columns = config.declared_types, config.metadata_as
    unknown = [column for column in columns if column not in declared and column not in before.types]
    inferred = source.inspect(unknown) if unknown else {}
    types = {column: declared.get(column) or before.types.get(column) or inferred[column] for column in columns}
    taken_names = {name for name in columns.values() if name}
    names = {column: name or _unless_taken(before.names.get(column), taken_names) for column, name in columns.items()}
    lenient = {*declared, *before.inexact}
    taken = CHUNK_FIELD_NAMES if config.chunking else ()
    return tuple(field.model_copy(update={"exact": field.column not in lenient}) for field in name_fields(types, names=names, taken=taken))


def _unless_taken(name: str | None, taken: set[str]) -> str | None:
    return None if name in taken else name


def newly_settled(config: SourceSettings, fields: tuple[SourceField, ...], known: SettledColumns | None) -> SettledColumns | None:
    """The inferred types and names of a job's fields that are not recorded yet; declared types and given names are not recorded."""
    before = known or SettledColumns(types={}, names={})
    types = {field.column: field.type for field in fields if field.column not in config.declared_types}
    names = {field.column: field.name for field in fields if not config.metadata_as[field.column]}
    new = SettledColumns(
        types={column: kind for column, kind in types.items() if column not in before.types},
        names={column: name for column, name in names.items() if column not in before.names},
        inexact=tuple(field.column for field in fields if not field.exact and field.column in types and field.column not in before.types),
    )
    return new if new.types or new.names else None


def columns_of_collection(checkpoint: Checkpoint, target: Target, alias: str) -> SettledColumns | None:
    """The columns of a corpus of an older version, which recorded none, from its collection; None if it cannot be described."""
    with closing(target):
        try:
            spec = target.collection(collection_name(alias, checkpoint.layout.fingerprint)).describe()
        except KitestringError:
            spec = None
    return _settled(spec.fields) if spec else None


def _settled(fields: tuple[ScalarField, ...]) -> SettledColumns:
    types, names = {field.column: field.type for field in fields}, {field.column: field.name for field in fields}
    return SettledColumns(types=types, names=names, inexact=tuple(types))


def columns_of_parts(checkpoint: Checkpoint, columns: list[str]) -> SettledColumns | None:
    """The same from a sealed part that has all these columns. Strings are texts or JSON, which is inferred from their values."""
    names = {column: plain_name(column) for column in columns}
    for table in _parts(checkpoint):
        if set(names.values()) <= set(table.column_names):
            return _settled(tuple(ScalarField(name=n, column=column, type=_type_of(table[n])) for column, n in names.items()))
    return None


def _parts(checkpoint: Checkpoint) -> Iterator[pa.Table]:
    keys = (stored.key for stored in checkpoint.store.list(checkpoint.layout.shards) if part_rows(stored.key))
    for _, key in zip(range(PARTS_READ), keys, strict=False):
        data = checkpoint.store.read(key)
        try:
            table = read_part(data, key)[0] if data else None
        except KitestringError:
            continue
        if table is not None:
            yield table


def _type_of(column: pa.ChunkedArray) -> FieldType:
    if pa.types.is_string(column.type):
        values = [value for value in column.to_pylist() if value is not None]
        return "json" if values and all(value[:1] in ('"', "{", "[") for value in values) else "varchar"
    return next((kind for kind, arrow in ARROW_TYPES.items() if arrow == column.type), "varchar")


def field_notes(
    config: SourceSettings, fields: tuple[SourceField, ...], types_now: Callable[[list[str]], Mapping[str, FieldType]]
) -> Iterator[str]:
    """Yield a note for each column whose files now hold another type than the recorded one; called once the source is cut."""
    recorded = [field for field in fields if field.column not in config.declared_types and field.type not in HOLD_ANYTHING]
    try:
        now = types_now([field.column for field in recorded]) if recorded else {}
    except KitestringError:  # reading the rows reports it
        return
    for field in recorded:
        kind = now.get(field.column, field.type)
        if wider(field.type, kind) != field.type:
            yield (
                f"the first run of this corpus inferred {spoken(field.type)} for column '{field.column}', which now holds {spoken(kind)}: "
                f"rows whose value is no {spoken(field.type)} are quarantined. To store them, set "
                f"source.types: {{{field.column}: {spoken(kind)}}} and another target.collection"
            )
