"""From a part's Arrow columns to what Milvus takes, and back: as the row dicts of pymilvus' public interface.

The same goes in and out about twice as fast by `tasks.adapters.milvus.protobuf`, where this pymilvus lets it.

A server that knows no null (before 2.5) gets in its place: '' for varchar, NaN for double (no comparison is true for
it), the smallest int64 for int64 (below any range in a filter), false for bool, JSON's own null, and an empty
array. Reading gives null again for all but varchar, bool and arrays (a null array comes back empty from Milvus Lite, too).
Such a server also takes no JSON but objects: a list or a bare value is kept as `{"kitestring_value": ...}`, which reading
undoes and a filter has to name. Milvus Lite takes no bare numbers and truths, and gives texts back without their quotes: there bare
values are kept in the same way, and lists as they are. A partition key can be null nowhere, and is treated so everywhere.
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
    """Whether an upsert may leave fields out, which then stay as they are, and a row that is not there is refused and not half made.

    So say Milvus' documents of 2.6.2 and later, and so does Milvus Lite 3.2. What a server does there with a field that it makes from
    others, or with the partition that a row is in, was never tried.
    """
    return server.kind == "Milvus Lite" or server.number >= MERGES_SINCE


def fit_fields(rows: pa.Table, columns: FieldTypes, nullable: Names[str], *, lite: bool = False) -> pa.Table:
    """Replace nulls by a value that a server without nullable fields accepts, in every field that is not nullable. `lite`: it is Milvus Lite."""
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
    """Wrap all but null and what begins as the pattern says."""
    plain = pc.or_(pc.match_substring_regex(column, pattern), pc.equal(column, "null"))
    wrapped = pc.binary_join_element_wise('{"%s": ' % WRAPPED, column, "}", "")  # noqa: UP031 - braces
    return pc.if_else(plain, column, wrapped)


def _empty_for_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    lists = whole(column)
    offsets = pa.array(ends_of(lengths_of(lists)).astype(np.int32))
    return pa.chunked_array([pa.ListArray.from_arrays(offsets, lists.flatten())])


def as_stored(value: object) -> object:
    """A scalar as the part had it, from what a server without null gave back."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    if isinstance(value, dict) and list(value) == [WRAPPED]:
        return value[WRAPPED]
    return None if value == INSTEAD_OF_NULL["int64"] or value != value else value  # noqa: PLR0124 - NaN is no number


def as_rows(rows: pa.Table, columns: FieldTypes, dim: int, *, vectors: VectorType = "float32") -> list[dict[str, Any]]:
    """The public form: one dict a row."""
    narrowed: Sequence[Any] = as_data(narrow(upsert_vectors(rows, dim), vectors)) if None in columns.values() else []
    values: dict[str, Any] = {name: narrowed if kind is None else rows[name].to_pylist() for name, kind in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def as_data(vectors: np.ndarray) -> list[Any]:
    """Vectors in their stored type as pymilvus takes them, of rows or of queries."""
    return [as_mapping(row) for row in vectors] if is_sparse(vectors) else list(vectors)


def as_vector(stored: Any, kind: VectorType) -> Any:
    """A vector as pymilvus gives it: float32 of shape (dim,), or packed where it is sparse."""
    return from_mapping(stored) if isinstance(stored, Mapping) else widen(stored, kind)


def held_of(rows: Iterable[dict[str, Any]], columns: FieldTypes, vectors: VectorType, *, dim: int, sparse: bool = False) -> StoredRows:
    """Rows as pymilvus gives them, each key once."""
    found = list({row["id"]: row for row in rows}.values())
    if not found:
        return no_rows(columns, dim, sparse=sparse)
    fields = {
        name: pa.array([_plain(row.get(name), kind) for row in found], ARROW_TYPES[kind])
        for name, kind in columns.items()
        if kind is not None and name != "id"
    }
    held = stacked([as_vector(row["vector"], vectors) for row in found], dim, sparse=sparse)
    return StoredRows(keys=[row["id"] for row in found], vectors=held, fields=fields)


def _plain(value: Any, kind: FieldType) -> Any:
    if value is None:
        return None
    if kind in ELEMENTS:
        return list(value)
    if kind == "json":
        return value.decode() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)
    return value


def no_rows(columns: FieldTypes, dim: int, *, sparse: bool = False) -> StoredRows:
    """Nothing was found."""
    fields = {name: pa.array([], ARROW_TYPES[kind]) for name, kind in columns.items() if kind is not None and name != "id"}
    return StoredRows(keys=[], vectors=stacked([], dim, sparse=sparse), fields=fields)
