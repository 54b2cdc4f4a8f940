"""Scalar fields: what a metadata column becomes in the Parquet part and in Milvus."""

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
ARRAY_ELEMENTS = 4_096  # the most that Milvus' arrays hold
PARTITION_KEYS = ("int64", "varchar")
VARCHAR_BYTES = 65_535
LONGEST_NAME = 250  # of the 255 that Milvus takes: numbers come behind


class ScalarField(Strict):
    """A metadata column under the name that it has in the collection."""

    name: str = Field(description="Name in the part and in Milvus.")
    column: str = Field(description="Name in the source.")
    type: FieldType


class SourceField(ScalarField):
    """A scalar field, and how its values are made. A collection keeps none of that."""

    exact: bool = Field(
        True, description="A text that would not come back the same from its number is refused. Declared types take every number."
    )


class SettledColumns(Strict):
    """What a corpus' metadata columns were found to be, once for all runs: a collection's fields do not change with its files."""

    format_version: Literal[1] = 1
    types: dict[str, FieldType] = Field(description="Of columns whose type the job does not declare.")
    names: dict[str, str] = Field(description="Of the fields of columns that the job does not name.")
    inexact: tuple[str, ...] = Field((), description="Columns that an older version found, which took every text of a number.")

    def __add__(self, other: SettledColumns) -> SettledColumns:
        """Both, this one first."""
        later = [column for column in other.inexact if column not in self.types]
        types, names = {**other.types, **self.types}, {**other.names, **self.names}
        return SettledColumns(types=types, names=names, inexact=(*self.inexact, *later))


class SampledColumns(Strict):
    """What the latest sample of the files found some columns to hold: as long as the files are the same, so is the sample."""

    format_version: Literal[1] = 1
    files: str = Field(description="Digest of the files' names, sizes and versions.")
    columns: tuple[str, ...] = Field(description="Those that were looked at.")
    types: dict[str, FieldType] = Field(description="Of those of which some row holds something.")


def plain_name(column: str) -> str:
    """A column's name as far as Milvus takes it: letters, digits and underscores, not starting with a digit. Older versions kept to this."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
    return f"_{plain}" if plain[:1].isdigit() or not plain else plain


def field_name(column: str, others: Iterable[str] = ()) -> str:
    """A name for a column that others do not have: written in Latin letters, and no word that Milvus or Kitestring uses."""
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
    """Name every metadata column, with names that are given for some, and none with one that is `taken`."""
    fields: dict[str, SourceField] = {}
    reserved = tuple(taken)
    given = {column: name for column, name in (names or {}).items() if name}
    for column, kind in types.items():
        others = [*reserved, *given.values(), *(field.name for field in fields.values())]
        fields[column] = SourceField(name=given.get(column) or field_name(column, others), column=column, type=kind, exact=exact)
    return tuple(fields.values())


def name_notes(fields: Iterable[ScalarField], given: Iterable[str] = ()) -> list[str]:
    """A line for each column that is stored under another name than anybody would think, or under one that no filter can name."""
    notes, known = [], set(given)
    for field in fields:
        plain = plain_name(field.column)
        why = "a field that every collection has" if plain in RESERVED else "a word of Milvus' filter language"
        if field.column in known:
            continue
        if is_taken(field.name):
            notes.append(f"column '{field.column}' is the field '{field.name}', {why}, so that no filter can name it: {_rename(field)}")
        elif is_taken(plain):
            notes.append(f"column '{field.column}' is stored as field '{field.name}', since '{plain}' is {why}")
        elif not field.column.isascii() or field.name != plain:
            notes.append(f"column '{field.column}' is stored as field '{field.name}': to choose the name, {_rename(field)}")
    return notes


def _rename(field: ScalarField) -> str:
    return f"set source.metadata: {{{field.column}: name}}, and another target.collection where there is one already"


def check_partition_key(column: str, fields: tuple[ScalarField, ...]) -> None:
    """Find a partition key that Milvus takes none of.

    Raises:
        BadInput: names the column, its type, and those that would do.
    """
    kinds = {field.column: field.type for field in fields}
    fit = [name for name, kind in kinds.items() if kind in PARTITION_KEYS]
    if column not in fit:
        others = f"of this source's metadata {', '.join(fit)} would do" if fit else "none of this source's metadata columns is such"
        raise BadInput(
            f"target.partition_key: column '{column}' is {kinds.get(column, 'not there')}, and a partition key needs integers "
            f"or strings (int64, varchar): {others}"
        )
