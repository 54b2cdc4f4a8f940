"""Scalar fields: metadata columns in the Parquet part and in Milvus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field
from text_unidecode import unidecode  # type: ignore[import-untyped]

from tasks.domain.errors import BadInput
from tasks.domain.job.metadata import RESERVED, ColumnType, is_taken
from tasks.domain.strict import Strict

FieldType = ColumnType
ELEMENTS: dict[FieldType, FieldType] = {"int64[]": "int64", "double[]": "double", "bool[]": "bool", "varchar[]": "varchar"}
ARRAYS: dict[FieldType, FieldType] = {element: array for array, element in ELEMENTS.items()}
ARRAY_ELEMENTS = 4_096  # the most elements of a Milvus array
PARTITION_KEYS = ("int64", "varchar")
VARCHAR_BYTES = 65_535
LONGEST_NAME = 250  # Milvus allows 255; the rest is for a number at the end


class ScalarField(Strict):
    """A metadata column with its name in the collection."""

    name: str = Field(description="Name in the part and in Milvus.")
    column: str = Field(description="Name in the source.")
    type: FieldType


class SourceField(ScalarField):
    """A scalar field, and how its values are converted, which a collection does not record."""

    exact: bool = Field(True, description="Refuse a text that does not round-trip through its number. Declared types accept every number.")


class SettledColumns(Strict):
    """The inferred types and names of a corpus' metadata columns, fixed for all runs, so that a collection's fields do not change."""

    format_version: Literal[1] = 1
    types: dict[str, FieldType] = Field(description="Types of columns that the job does not declare.")
    names: dict[str, str] = Field(description="Field names of columns that the job does not name.")
    inexact: tuple[str, ...] = Field((), description="Columns inferred by an older version, which accepted any text of a number.")

    def __add__(self, other: SettledColumns) -> SettledColumns:
        """Merge both; this one takes precedence."""
        later = [column for column in other.inexact if column not in self.types]
        types, names = {**other.types, **self.types}, {**other.names, **self.names}
        return SettledColumns(types=types, names=names, inexact=(*self.inexact, *later))


class SampledColumns(Strict):
    """The types of some columns in the latest sample of the files; valid while the files are the same."""

    format_version: Literal[1] = 1
    files: str = Field(description="Digest of the files' names, sizes and versions.")
    columns: tuple[str, ...] = Field(description="The sampled columns.")
    types: dict[str, FieldType] = Field(description="Types of those columns that have a value in some row.")


def plain_name(column: str) -> str:
    """Return a column's name with only letters, digits and underscores, not starting with a digit, as older versions named fields."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
    return f"_{plain}" if plain[:1].isdigit() or not plain else plain


def field_name(column: str, others: Iterable[str] = ()) -> str:
    """Return a unique field name for a column: in Latin letters, and not a word that Milvus or Kitestring uses."""
    latin = column if column.isascii() else re.sub(r"_+", "_", plain_name(unidecode(column).strip())).strip("_")
    name = plain_name(latin or "column")[:LONGEST_NAME]
    name = f"{name}_" if is_taken(name) else name
    used, number, numbered = set(others), 1, name
    while numbered in used:
        number += 1
        numbered = f"{name}_{number}"
    return numbered


def name_fields(
    types: Mapping[str, FieldType], *, names: Mapping[str, str | None] | None = None, exact: bool = True, taken: Iterable[str] = ()
) -> tuple[SourceField, ...]:
    """Name the field of every metadata column: by `names` if it has one, never by a name in `taken`."""
    fields: dict[str, SourceField] = {}
    reserved = tuple(taken)
    chosen = {column: name for column, name in (names or {}).items() if name}
    for column, kind in types.items():
        others = [*reserved, *chosen.values(), *(field.name for field in fields.values())]
        fields[column] = SourceField(name=chosen.get(column) or field_name(column, others), column=column, type=kind, exact=exact)
    return tuple(fields.values())


def name_notes(fields: Iterable[ScalarField], given: Iterable[str] = ()) -> list[str]:
    """Return a line for each column whose field has an unexpected name, or a name that filters cannot use."""
    notes, known = [], set(given)
    for field in fields:
        plain = plain_name(field.column)
        why = "a field that every collection has" if plain in RESERVED else "a word of Milvus' filter language"
        if field.column in known:
            continue
        if is_taken(field.name):
            notes.append(f"column '{field.column}' is the field '{field.name}', {why}, so filters cannot use it: {_rename(field)}")
        elif is_taken(plain):
            notes.append(f"column '{field.column}' is stored as field '{field.name}', since '{plain}' is {why}")
        elif not field.column.isascii() or field.name != plain:
            notes.append(f"column '{field.column}' is stored as field '{field.name}': to choose the name, {_rename(field)}")
    return notes


def _rename(field: ScalarField) -> str:
    return f"set source.metadata: {{{field.column}: name}}, and another target.collection if the present one exists already"


def check_partition_key(column: str, fields: tuple[ScalarField, ...]) -> None:
    """Check that Milvus accepts a column as partition key.

    Raises:
        BadInput: names the column, its type, and the columns that are possible.
    """
    kinds = {field.column: field.type for field in fields}
    fit = [name for name, kind in kinds.items() if kind in PARTITION_KEYS]
    if column not in fit:
        others = f"of this source's metadata {', '.join(fit)} would do" if fit else "none of this source's metadata columns has such a type"
        raise BadInput(
            f"target.partition_key: column '{column}' is {kinds.get(column, 'not there')}, and a partition key needs integers "
            f"or strings (int64, varchar): {others}"
        )
