"""Converts a part's Arrow columns to the row dicts of pymilvus' public interface, and back.

`tasks.adapters.milvus.protobuf` does the same about twice as fast, if this version of pymilvus allows it.

A server without nullable fields (before 2.5) gets these values for null: '' for varchar, NaN for double (no comparison is true for
it), the smallest int64 for int64 (below any range in a filter), false for bool, JSON's own null, and an empty
array. Reading restores null for all but varchar, bool and arrays (Milvus Lite, too, returns a null array as empty).
Such a server accepts only objects as JSON: a list or a scalar is stored as `{"kitestring_value": ...}`, which reading
undoes and a filter has to name. Milvus Lite refuses scalar numbers and booleans, and returns texts without their quotes: there
scalars are wrapped in the same way, and lists stay unwrapped. A partition key is nullable nowhere, so its nulls are always replaced.
"""

from __future__ import annotations

import json
from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.collection_rows import FieldTypes, ends_of, lengths_of, upsert_vectors, whole
from tasks.adapters.rows.comparison import StoredRows
from tasks.adapters.rows.row_schema import ARROW_TYPES, WRAPPED
from tasks.adapters.rows.vectors.sparse_vectors import as_mapping, from_mapping, is_sparse, stacked
from tasks.adapters.rows.vectors.vector_types import narrow, widen
from tasks.domain.errors import Permanent
from tasks.domain.job.index import Server, VectorType
from tasks.domain.target.fields import ELEMENTS, FieldType

MERGES_SINCE = (2, 6, 2)
INSTEAD_OF_NULL: dict[FieldType, Any] = {"varchar": "", "double": float("nan"), "int64": -(2**63), "bool": False, "json": "null"}


def merges(server: Server) -> bool:
    """Whether the server supports partial upserts: omitted fields stay unchanged, and a missing row is refused, not created incomplete.

    Documented by Milvus for 2.6.2 and later, and seen on Milvus Lite 3.2. The effect on fields that the server computes from
    others, and on the partition of a row, is untested.
    """
    return server.kind == "Milvus Lite" or server.number >= MERGES_SINCE


def fit_fields(rows: pa.Table, columns: FieldTypes, nullable: Names[str], *, lite: bool = False) -> pa.Table:
    """Replace nulls in every field that is not nullable by a value that the server accepts. `lite`: the server is Milvus Lite."""
    for name, kind in columns.items():
        if lite and kind == "json":
            rows = rows.set_column(rows.schema.get_field_index(name), name, _wrap(rows[name], r"^\s*[{\[]"))
        if kind is None or name in nullable:
            continue
        if name in ("id", "shard") and rows[name].null_count:
            raise Permanent(f"a part has rows with no {name}")
        column = _empty_for_null(rows[name]) if kind in ELEMENTS else rows[name].fill_null(INSTEAD_OF_NULL[kind])
        column = _wrap(column, r"^\s*\{") if kind == "json" else column
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _wrap(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Wrap all JSON values except null and those whose start matches the pattern."""
    plain = pc.or_(pc.match_substring_regex(column, pattern), pc.equal(column, "null"))
    wrapped = pc.binary_join_element_wise('{"%s": ' % WRAPPED, column, "}", "")  # noqa: UP031 - braces
    return pc.if_else(plain, column, wrapped)


def _empty_for_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    lists = whole(column)
    offsets = pa.array(ends_of(lengths_of(lists)).astype(np.int32))
    return pa.chunked_array([pa.ListArray.from_arrays(offsets, lists.flatten())])


def as_stored(value: object) -> object:
    """The part's value of a field, from the value that a server without nullable fields returned."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    if isinstance(value, dict) and list(value) == [WRAPPED]:
        return value[WRAPPED]
    return None if value == INSTEAD_OF_NULL["int64"] or value != value else value  # noqa: PLR0124 - NaN is no number


def as_rows(rows: pa.Table, columns: FieldTypes, dim: int, *, vectors: VectorType = "float32") -> list[dict[str, Any]]:
    """Rows for pymilvus' public interface: one dict per row."""
    narrowed: Sequence[Any] = as_data(narrow(upsert_vectors(rows, dim), vectors)) if None in columns.values() else []
    values: dict[str, Any] = {name: narrowed if kind is None else rows[name].to_pylist() for name, kind in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def as_data(vectors: np.ndarray) -> list[Any]:
    """Vectors of rows or queries, in their stored type, in the form that pymilvus accepts."""
    return [as_mapping(row) for row in vectors] if is_sparse(vectors) else list(vectors)


def as_vector(stored: Any, kind: VectorType) -> Any:
    """A vector from pymilvus' form: float32 of shape (dim,), or packed if it is sparse."""
    return from_mapping(stored) if isinstance(stored, Mapping) else widen(stored, kind)


def as_stored_rows(
    rows: Iterable[dict[str, Any]], columns: FieldTypes, vectors: VectorType, *, dim: int, sparse: bool = False
) -> StoredRows:
    """Rows from pymilvus' row dicts, each key once."""
    unique = list({row["id"]: row for row in rows}.values())
    if not unique:
        return no_rows(columns, dim, sparse=sparse)
    fields = {
        name: pa.array([_plain(row.get(name), kind) for row in unique], ARROW_TYPES[kind])
        for name, kind in columns.items()
        if kind is not None and name != "id"
    }
    stored = stacked([as_vector(row["vector"], vectors) for row in unique], dim, sparse=sparse)
    return StoredRows(keys=[row["id"] for row in unique], vectors=stored, fields=fields)


def _plain(value: Any, kind: FieldType) -> Any:
    if value is None:
        return None
    if kind in ELEMENTS:
        return list(value)
    if kind == "json":
        return value.decode() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)
    return value


def no_rows(columns: FieldTypes, dim: int, *, sparse: bool = False) -> StoredRows:
    """An empty result."""
    fields = {name: pa.array([], ARROW_TYPES[kind]) for name, kind in columns.items() if kind is not None and name != "id"}
    return StoredRows(keys=[], vectors=stacked([], dim, sparse=sparse), fields=fields)
