"""Scalar fields: what a metadata column becomes in the Parquet part and in Milvus."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from tasks.domain.errors import BadInput
from tasks.domain.strict import Strict

FieldType = Literal["int64", "double", "bool", "varchar", "json", "int64[]", "double[]", "bool[]", "varchar[]"]
ELEMENTS: dict[FieldType, FieldType] = {"int64[]": "int64", "double[]": "double", "bool[]": "bool", "varchar[]": "varchar"}
ARRAYS: dict[FieldType, FieldType] = {element: array for array, element in ELEMENTS.items()}
ARRAY_ELEMENTS = 4_096  # the most that Milvus' arrays hold
RESERVED = ("id", "vector", "text", "shard")
PARTITION_KEYS = ("int64", "varchar")
VARCHAR_BYTES = 65_535


class ScalarField(Strict):
    """A metadata column under the name that it has in the collection."""

    name: str = Field(description="Name in the part and in Milvus.")
    column: str = Field(description="Name in the source.")
    type: FieldType


def name_field(column: str) -> str:
    """A name that Milvus takes: letters, digits and underscores, not starting with a digit."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", column)
    return f"_{plain}" if plain[:1].isdigit() or not plain else plain


def name_fields(types: dict[str, FieldType]) -> tuple[ScalarField, ...]:
    """Name every metadata column.

    Raises:
        BadInput: two columns would make a field of one name, or a column takes a name that Kitestring uses.
    """
    fields: dict[str, ScalarField] = {}
    for column, kind in types.items():
        name = name_field(column)
        if name in RESERVED:
            raise BadInput(f"metadata column '{column}' makes a field '{name}', a name that Kitestring uses: leave it out or rename it")
        if name in fields:
            raise BadInput(f"metadata columns '{fields[name].column}' and '{column}' make a field of the same name '{name}': leave one out")
        fields[name] = ScalarField(name=name, column=column, type=kind)
    return tuple(fields.values())


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
