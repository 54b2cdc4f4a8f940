"""The embedded content: texts joined from columns, or pictures as bytes or references."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.files.access import may_pass
from tasks.adapters.files.fsspec_files import first_words
from tasks.adapters.files.row_files import read_file
from tasks.adapters.rows.column_types import json_value
from tasks.adapters.rows.scalars import Problems, ScalarColumn, reason, texts
from tasks.domain.errors import Transient
from tasks.domain.job.references import References

KEY_DIGITS = 32  # hexadecimal: 128 bits of SHA-256
OUTSIDE = "image outside source.references"  # the class of the reason, by which quarantined rows are counted
JOINT = "\n\n"


def blank_texts(values: pa.Array) -> pa.Array:
    """True where there is no character but white space."""
    return pc.fill_null(pc.or_(pc.equal(pc.binary_length(values), 0), pc.utf8_is_space(values)), True)


def join_texts(columns: Sequence[tuple[str, ScalarColumn]]) -> tuple[pa.Array, Problems]:
    """Columns joined by a blank line; nulls and blank values are left out, and null is where nothing is left."""
    problems: Problems = {}
    kept = []
    for name, column in columns:
        values, wrong = texts(column, nested=False)
        problems.update({at: reason(why, f"text: column '{name}' ") for at, why in wrong.items()})
        kept.append(pc.if_else(blank_texts(values), pa.scalar(None, pa.string()), values))
    joined = kept[0]
    for values in kept[1:]:
        # Not null_handling="skip": pyarrow 26 loses rows whose values are all null.
        joined = pc.coalesce(pc.binary_join_element_wise(joined, values, JOINT), joined, values)
    return joined, problems


def pictures(column: ScalarColumn, beside: str, references: References) -> tuple[pa.Array, pa.Array, Problems]:
    """Pictures as (bytes, places): of each row one is set, or none where there is no picture.

    Args:
        column: bytes, struct<bytes, path> as Hugging Face datasets write, paths or URIs.
        beside: the row's file, from which relative paths start.
        references: what rows may name.
    """
    values, kind = column.values, column.values.type
    nothing = pa.nulls(len(values), pa.large_binary())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _encoded(values), pa.nulls(len(values), pa.string()), {}
    if pa.types.is_struct(kind):
        data = _encoded(_member(column.values, "bytes")) if kind.get_field_index("bytes") >= 0 else nothing
        paths, problems = _places(ScalarColumn(_member(values, "path"), json=False), beside, references)
        return data, pc.if_else(pc.is_valid(data), pa.scalar(None, pa.string()), paths), problems
    return nothing, *_places(column, beside, references)


def _encoded(values: pa.Array) -> pa.Array:
    values = values.cast(pa.large_binary())
    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, pa.large_binary()), values)


def _member(values: pa.Array, name: str) -> pa.Array:
    return pc.struct_field(values, name) if values.type.get_field_index(name) >= 0 else pa.nulls(len(values), pa.string())


def _places(column: ScalarColumn, beside: str, references: References) -> tuple[pa.Array, Problems]:
    if column.json:
        column = ScalarColumn(pa.array([_path_of(text) for text in column.values.to_pylist()], pa.string()), json=False)
    found, wrong = texts(column, nested=False)
    problems = {at: f"image: {why}" for at, why in wrong.items()}
    places: list[str | None] = []
    folder = beside.rpartition("/")[0]
    for at, value in enumerate(found.to_pylist()):
        try:
            places.append(references.resolve(value, folder) if value and value.strip() else None)
        except ValueError as error:
            places.append(None)
            problems[at] = f"{OUTSIDE}: {error}"
    return pa.array(places, pa.string()), problems


def _path_of(text: str | None) -> str | None:
    value: Any = json_value(text) if text else None
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) else None


def key_of(content: bytes) -> str:
    """The key of a row that has none: the same content is the same row."""
    return hashlib.sha256(content).hexdigest()[:KEY_DIGITS]


def key_of_file(place: str, references: References | None = None) -> str:
    """The key of the picture at a place, which `references` lets rows name.

    Raises:
        Transient: its store does not answer.
        KitestringError, OSError: it cannot be read.
    """
    try:
        return key_of(read_file(place, references))
    except OSError as error:
        if may_pass(error):
            raise Transient(f"{place} could not be read: {first_words(error)}") from error
        raise
