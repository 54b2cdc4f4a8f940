"""The embedded content: texts joined from columns, or images as bytes or references."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.files.access import is_transient
from tasks.adapters.files.fsspec_files import first_words
from tasks.adapters.files.row_files import read_file
from tasks.adapters.rows.column_types import json_value
from tasks.adapters.rows.scalars import Problems, ScalarColumn, reason, texts
from tasks.domain.errors import Transient
from tasks.domain.job.references import References

KEY_DIGITS = 32  # hexadecimal: 128 bits of SHA-256
OUTSIDE = "image outside source.references"  # reason class, by which reports count quarantined rows
JOINT = "\n\n"


def blank_texts(values: pa.Array) -> pa.Array:
    """Return a mask of the values that are null, empty or only white space."""
    return pc.fill_null(pc.or_(pc.equal(pc.binary_length(values), 0), pc.utf8_is_space(values)), True)


def join_texts(columns: Sequence[tuple[str, ScalarColumn]]) -> tuple[pa.Array, Problems]:
    """Join columns with a blank line, skipping null and blank values; null if nothing remains."""
    problems: Problems = {}
    parts = []
    for name, column in columns:
        values, wrong = texts(column, nested=False)
        problems.update({at: reason(why, f"text: column '{name}' ") for at, why in wrong.items()})
        parts.append(pc.if_else(blank_texts(values), pa.scalar(None, pa.string()), values))
    joined = parts[0]
    for values in parts[1:]:
        # Not null_handling="skip": pyarrow 26 loses rows whose values are all null.
        joined = pc.coalesce(pc.binary_join_element_wise(joined, values, JOINT), joined, values)
    return joined, problems


def pictures(column: ScalarColumn, beside: str, references: References) -> tuple[pa.Array, pa.Array, Problems]:
    """Return images as (bytes, locations, problems): each row has one of the first two, or neither if it has no image.

    Args:
        column: bytes, struct<bytes, path> as in Hugging Face datasets, paths or URIs.
        beside: the row's file; relative paths start in its folder.
        references: the locations that rows may name.
    """
    values, kind = column.values, column.values.type
    nothing = pa.nulls(len(values), pa.large_binary())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _encoded(values), pa.nulls(len(values), pa.string()), {}
    if pa.types.is_struct(kind):
        data = _encoded(_member(column.values, "bytes")) if kind.get_field_index("bytes") >= 0 else nothing
        paths, problems = _locations(ScalarColumn(_member(values, "path"), json=False), beside, references)
        return data, pc.if_else(pc.is_valid(data), pa.scalar(None, pa.string()), paths), problems
    return nothing, *_locations(column, beside, references)


def _encoded(values: pa.Array) -> pa.Array:
    values = values.cast(pa.large_binary())
    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.large_binary()), values)


def _member(values: pa.Array, name: str) -> pa.Array:
    return pc.struct_field(values, name) if values.type.get_field_index(name) >= 0 else pa.nulls(len(values), pa.string())


def _locations(column: ScalarColumn, beside: str, references: References) -> tuple[pa.Array, Problems]:
    if column.json:
        column = ScalarColumn(pa.array([_path_of(text) for text in column.values.to_pylist()], pa.string()), json=False)
    paths, unreadable = texts(column, nested=False)
    problems = {at: f"image: {why}" for at, why in unreadable.items()}
    locations: list[str | None] = []
    folder = beside.rpartition("/")[0]
    for at, value in enumerate(paths.to_pylist()):
        try:
            locations.append(references.resolve(value, folder) if value and value.strip() else None)
        except ValueError as error:
            locations.append(None)
            problems[at] = f"{OUTSIDE}: {error}"
    return pa.array(locations, pa.string()), problems


def _path_of(text: str | None) -> str | None:
    value: Any = json_value(text) if text else None
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else None


def key_of(content: bytes) -> str:
    """Return the key of a row without one: equal content is the same row."""
    return hashlib.sha256(content).hexdigest()[:KEY_DIGITS]


def key_of_file(place: str, references: References | None = None) -> str:
    """Return the key of the image at a location that `references` permits.

    Raises:
        Transient: its store does not respond.
        KitestringError, OSError: it cannot be read.
    """
    try:
        return key_of(read_file(place, references))
    except OSError as error:
        if is_transient(error):
            raise Transient(f"{place} could not be read: {first_words(error)}") from error
        raise
