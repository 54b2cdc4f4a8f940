"""Converts lists in a source's column to arrays: all elements of one type, none of them null.

Milvus allows no null inside an array, so nulls inside a list are dropped. An array holds at most 4,096 elements; the texts
of one array together are limited to the bytes of one text.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.column_types import is_list, json_text
from tasks.adapters.rows.scalars import Problems, ScalarColumn, each, plain, scalars, shown
from tasks.domain.target.fields import ARRAY_ELEMENTS, VARCHAR_BYTES, FieldType


def arrays(column: ScalarColumn, of: FieldType, *, exact: bool = True) -> tuple[pa.Array, Problems]:
    """Convert the lists to arrays of a scalar type. `exact`: see `scalars`.

    Returns the array and its problems: rows whose value is not a list, has an element that does not convert, or exceeds
    Milvus' limits, each with the reason.
    """
    lists, problems = _lists(column)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    rows = np.repeat(np.arange(len(lists)), lengths)
    elements, element_problems = scalars(_elements(lists, json=column.json or not is_list(column.values.type)), of, exact=exact)
    for at, why in element_problems.items():
        problems.setdefault(int(rows[at]), f"in its list: {why}")
    present = elements.is_valid().to_numpy(zero_copy_only=False)
    rows, elements = rows[present], elements.filter(pa.array(present))
    counts = np.bincount(rows, minlength=len(lists))
    _note_exceeded(problems, counts, ARRAY_ELEMENTS, "elements")
    if of == "varchar":
        sizes = np.bincount(rows, weights=pc.binary_length(elements).to_numpy(), minlength=len(lists))
        _note_exceeded(problems, sizes, VARCHAR_BYTES, "bytes")
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, elements, mask=lists.is_null()), problems


def _lists(column: ScalarColumn) -> tuple[pa.Array, Problems]:
    """Convert to plain lists. Elements of JSON texts, and of values that are not lists in this file, become JSON texts."""
    kind = column.values.type
    if column.json or not is_list(kind):
        return each(column, _parts, pa.list_(pa.string()))
    return column.values.cast(pa.list_(kind.value_field)), {}


def _parts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"{shown(value)} is not a list")
    return [json_text(element) for element in value]


def _elements(lists: pa.ListArray, *, json: bool) -> ScalarColumn:
    values = lists.flatten()
    return ScalarColumn(values, json=True) if json else plain(lists.type.value_field, values)


def _note_exceeded(problems: Problems, counts: np.ndarray, allowed: int, unit: str) -> None:
    for at in np.flatnonzero(counts > allowed):
        problems.setdefault(int(at), f"has {int(counts[at])} {unit}, {allowed} allowed")
