"""Converts rows to the form of a collection: its columns in order, truncated texts, batches by rows and bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.vectors.sparse_vectors import sparse_rows
from tasks.domain.errors import Permanent
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.fields import ELEMENTS, VARCHAR_BYTES, FieldType

FieldTypes = dict[str, FieldType | None]  # None: the vector


def columns_of(spec: CollectionSpec) -> FieldTypes:
    """Return the types of the collection's fields in order; None: the vector."""
    text: FieldTypes = {"text": "varchar"} if spec.store_text else {}
    return {"id": "varchar", "vector": None, **text, **{f.name: f.type for f in spec.fields}, "shard": "varchar"}


def rows_for(spec: CollectionSpec, rows: pa.Table) -> tuple[pa.Table, int]:
    """Return the collection's fields of some rows with texts truncated to fit, and the number of truncated texts.

    Raises:
        Permanent: the rows lack a field.
    """
    columns = columns_of(spec)
    absent = [name for name in columns if name not in rows.column_names]
    if absent:
        raise Permanent(f"a part lacks the collection's field '{absent[0]}' (it has {', '.join(rows.column_names)})")
    return cut_texts(rows.select(list(columns)), columns)


def cut_texts(rows: pa.Table, columns: FieldTypes) -> tuple[pa.Table, int]:
    """Truncate values too long for a varchar field at a character boundary. Returns the table and the number of truncated values."""
    cut = 0
    for name, kind in columns.items():
        if kind != "varchar" or name in ("id", "shard"):
            continue
        long = int(pc.sum(pc.greater(pc.binary_length(rows[name]), VARCHAR_BYTES)).as_py() or 0)
        if long:
            values = [v if v is None else v.encode()[:VARCHAR_BYTES].decode(errors="ignore") for v in rows[name].to_pylist()]
            rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, pa.string()))
            cut += long
    return rows, cut


def batches(rows: pa.Table, columns: FieldTypes, *, most_rows: int, most_bytes: int) -> Iterator[pa.Table]:
    """Yield slices of at most `most_rows` rows and `most_bytes` bytes, each of at least one row."""
    ends = np.cumsum(_row_bytes(rows, columns))
    first = 0
    while first < rows.num_rows:
        sent = ends[first - 1] if first else 0
        stop = max(first + 1, min(first + most_rows, int(np.searchsorted(ends, sent + most_bytes, side="right"))))
        yield rows.slice(first, stop - first)
        first = stop


def _row_bytes(rows: pa.Table, columns: FieldTypes) -> np.ndarray:
    total: np.ndarray = np.full(rows.num_rows, 9 * len(columns), dtype=np.int64)
    for name, kind in columns.items():
        if kind in ("varchar", "json"):
            total += pc.binary_length(rows[name]).fill_null(0).to_numpy().astype(np.int64)
        elif kind is None:
            total += _vector_bytes(whole(rows[name]))
        elif kind in ELEMENTS:
            total += _array_bytes(whole(rows[name]), ELEMENTS[kind])
    return total


def _vector_bytes(vectors: pa.Array) -> np.ndarray:
    return 8 * lengths_of(vectors.field("indices")) if pa.types.is_struct(vectors.type) else 4 * lengths_of(vectors)


def _array_bytes(arrays: pa.Array, of: FieldType) -> np.ndarray:
    lengths = lengths_of(arrays)
    if of != "varchar":
        return 9 * lengths
    ends, rows = ends_of(pc.binary_length(arrays.flatten()).to_numpy()), ends_of(lengths)
    sizes: np.ndarray = np.diff(ends[rows]) + 9 * lengths
    return sizes


def upsert_vectors(rows: pa.Table, dim: int) -> np.ndarray:
    """Return the vector column as float32 of shape (rows, dim); sparse vectors as packed rows (`tasks.adapters.rows.vectors.sparse_vectors`).

    Raises:
        Permanent: a vector is missing or has another dimension.
    """
    column = whole(rows["vector"])
    if pa.types.is_struct(column.type):
        return sparse_rows(column, dim)
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    lengths = pc.list_value_length(column)
    if lengths.null_count or len(flat) != len(column) * dim or not pc.all(pc.equal(lengths, dim), min_count=0).as_py():
        raise Permanent(f"a part has a vector that is missing or not of the collection's {dim} dimensions")
    return flat.reshape(len(column), dim)


def whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    column = column.combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


def ends_of(sizes: np.ndarray) -> np.ndarray:
    """Return the offsets of consecutive items of these sizes: item i spans [ends[i], ends[i+1])."""
    ends: np.ndarray = np.concatenate([[0], np.cumsum(sizes)])
    return ends


def lengths_of(lists: pa.Array) -> np.ndarray:
    """Return the length of each list; 0 for null."""
    lengths: np.ndarray = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    return lengths
