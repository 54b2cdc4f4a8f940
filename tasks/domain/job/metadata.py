"""The metadata columns of a source: their names and types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

ColumnType = Literal["int64", "double", "bool", "varchar", "json", "int64[]", "double[]", "bool[]", "varchar[]"]
RESERVED = ("id", "vector", "text", "shard")  # fields that every collection has
# Words of Milvus' filter language, case-insensitive: a field with such a name can be stored, but not used in a filter.
FILTER_WORDS = frozenset(
    [
        "and",
        "array_contains",
        "array_contains_all",
        "array_contains_any",
        "array_length",
        "exists",
        "false",
        "in",
        "interval",
        "is",
        "iso",
        "json_contains",
        "json_contains_all",
        "json_contains_any",
        "like",
        "not",
        "null",
        "or",
        "phrase_match",
        "random_sample",
        "text_match",
        "true",
        "_partition",
        "_seq",
    ]
)
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def is_taken(name: str) -> bool:
    """Whether the name is not available for metadata fields."""
    return name in RESERVED or name.lower() in FILTER_WORDS


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_type(value: object) -> object:
    return value.replace("text", "varchar") if value in ("text", "text[]") and isinstance(value, str) else value


def _checked(names: dict[str, str | None]) -> dict[str, str | None]:
    field_names = [name for name in names.values() if name is not None]
    for name in field_names:
        if not FIELD_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is not a valid field name: use letters, digits and underscores, not beginning with a digit")
        if is_taken(name):
            why = "a field that every collection has" if name in RESERVED else "a word of Milvus' filter language"
            raise ValueError(f"'{name}' is {why}: choose another name")
        if field_names.count(name) > 1:
            raise ValueError(f"'{name}' is the field name of two columns: choose another name for one")
    return names


ColumnNames = Annotated[list[str], BeforeValidator(_as_list)]
FieldNames = Annotated[dict[str, str | None], AfterValidator(_checked)]
DeclaredType = Annotated[ColumnType, BeforeValidator(_as_type)]
Metadata = Annotated[ColumnNames, Field(title="columns")] | Annotated[FieldNames, Field(title="columns and names")]
METADATA_DESCRIPTION = (
    "to store in Milvus as scalar fields, for filters and display: a list, or a map from column to field name ({标题: title}). "
    "Folders such as lang=de/ are columns, too. Missing values are null."
)
TYPES_DESCRIPTION = (
    "Types of metadata columns that cannot be inferred: int64, double, bool, text, json, or arrays of them (int64[]). Left out: inferred from a sample "
    "of the files (Parquet: from all of them) and fixed for the corpus; texts that do not round-trip through a number stay texts."
)


def named_metadata(metadata: list[str] | dict[str, str | None]) -> dict[str, str | None]:
    """Return each column once, with its field name if one is given."""
    return metadata if isinstance(metadata, dict) else dict.fromkeys(metadata)


@dataclass(frozen=True, slots=True)
class NamedColumns:
    """The key and content columns of a source. `key`: None if the key is a hash of the content."""

    key: str | None
    content: list[str]
