"""Which scalar fields a job's metadata become: as earlier runs of the corpus found them, as the job declares them, else as the files tell.

Types and names are found once for a corpus and encoder, and kept: sealed parts and the collection have them. Files that come later
and hold something else do not change them; a note says what to do.
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

PARTS_READ = 20  # of an older version's, until one has the wanted columns
HOLD_ANYTHING = ("varchar", "json")


def settle_fields(source: SourceFiles[Any], known: SettledColumns | None) -> tuple[SourceField, ...]:
    """The fields of a job's metadata, in the job's order.

    Raises:
        BadInput: a column whose type nobody knows is nowhere.
    """
    config: SourceSettings = source.config
    before = known or SettledColumns(types={}, names={})
    declared, given = config.declared_types, config.metadata_as
    unknown = [column for column in given if column not in declared and column not in before.types]
    found = source.inspect(unknown) if unknown else {}
    types = {column: declared.get(column) or before.types.get(column) or found[column] for column in given}
    named = {name for name in given.values() if name}
    names = {column: name or _free(before.names.get(column), named) for column, name in given.items()}
    lenient = {*declared, *before.inexact}
    taken = CHUNK_FIELD_NAMES if config.chunking else ()
    return tuple(field.model_copy(update={"exact": field.column not in lenient}) for field in name_fields(types, names=names, taken=taken))


def _free(name: str | None, taken: set[str]) -> str | None:
    return None if name in taken else name


def newly_settled(config: SourceSettings, fields: tuple[SourceField, ...], known: SettledColumns | None) -> SettledColumns | None:
    """What a job's fields say that is not kept yet; declared types and given names are the job's own."""
    before = known or SettledColumns(types={}, names={})
    types = {field.column: field.type for field in fields if field.column not in config.declared_types}
    names = {field.column: field.name for field in fields if not config.metadata_as[field.column]}
    new = SettledColumns(
        types={column: kind for column, kind in types.items() if column not in before.types},
        names={column: name for column, name in names.items() if column not in before.names},
        inexact=tuple(field.column for field in fields if not field.exact and field.column in types and field.column not in before.types),
    )
    return new if new.types or new.names else None


def found_before(checkpoint: Checkpoint, target: Target, alias: str) -> SettledColumns | None:
    """What an older version, which kept no such document, found: as the collection has it, or else a sealed part.

    A part's strings may be texts or JSON, which their values tell.
    """
    with closing(target):
        try:
            made = target.collection(collection_name(alias, checkpoint.layout.fingerprint)).describe()
        except KitestringError:
            made = None
    return _settled(made.fields) if made else None


def _settled(fields: tuple[ScalarField, ...]) -> SettledColumns:
    types, names = {field.column: field.type for field in fields}, {field.column: field.name for field in fields}
    return SettledColumns(types=types, names=names, inexact=tuple(types))


def sealed_before(checkpoint: Checkpoint, columns: list[str]) -> SettledColumns | None:
    """The same from a part that has all these columns."""
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
    """A line for each column that is kept as something else than its files hold by now; asked once the source is cut."""
    kept = [field for field in fields if field.column not in config.declared_types and field.type not in HOLD_ANYTHING]
    try:
        now = types_now([field.column for field in kept]) if kept else {}
    except KitestringError:  # reading the rows says so
        return
    for field in kept:
        kind = now.get(field.column, field.type)
        if wider(field.type, kind) != field.type:
            yield (
                f"column '{field.column}' was found to be {spoken(field.type)} by the first run of this corpus, and is {spoken(kind)} by now: rows "
                f"whose value is no {spoken(field.type)} are quarantined. To store them, set source.types: {{{field.column}: {spoken(kind)}}} "
                "and another target.collection"
            )
