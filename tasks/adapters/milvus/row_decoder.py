"""Whole rows out of Milvus: the answer's protobuf as numpy and Arrow, or pymilvus' dicts where that is hidden.

The protobuf's vectors are taken as bytes, without a Python float for each number, as `tasks.adapters.milvus.upsert_batches` sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import milvus_pb2

from tasks.adapters.milvus.upsert_batches import ARRAYS_OF, VECTORS_OF
from tasks.adapters.rows.collection_rows import Columns
from tasks.adapters.rows.comparison import Held
from tasks.adapters.rows.row_schema import ARROW_TYPES
from tasks.adapters.rows.vector_types import DTYPES, widen
from tasks.domain.job.index import VectorType
from tasks.domain.target.fields import ELEMENTS, FieldType

STRONG = 0  # Milvus' consistency level


def query_rows(
    stub: Any, collection: str, where: str, columns: Columns, vectors: VectorType, *, dim: int, database: str, timeout: float
) -> Held:
    """Every field of the rows for which an expression is true, with strong consistency; raises what pymilvus would."""
    request = milvus_pb2.QueryRequest(
        collection_name=collection, expr=where, output_fields=list(columns), use_default_consistency=False, consistency_level=STRONG
    )
    answer = stub.Query(request, timeout=timeout, metadata=[("dbname", database)])
    if answer.status.code or answer.status.error_code:
        raise MilvusException(answer.status.code, answer.status.reason, answer.status.error_code)
    found = {field.field_name: field for field in answer.fields_data}
    keys = list(found["id"].scalars.string_data.data) if "id" in found else []
    if not keys:
        return no_rows(columns, dim)
    fields = {name: _scalars(found[name], kind) for name, kind in columns.items() if kind is not None and name != "id"}
    return Held(keys=keys, vectors=_vectors(found["vector"].vectors, vectors, dim), fields=fields)


def no_rows(columns: Columns, dim: int) -> Held:
    """Nothing was found."""
    fields = {name: pa.array([], ARROW_TYPES[kind]) for name, kind in columns.items() if kind is not None and name != "id"}
    return Held(keys=[], vectors=np.empty((0, dim), np.float32), fields=fields)


def _vectors(field: Any, kind: VectorType, dim: int) -> np.ndarray:
    if kind != "float32":
        return widen(getattr(field, VECTORS_OF[kind][0]), kind).reshape(-1, dim)
    # A packed `repeated float data = 1` ends in the little-endian floats, after its tag and its length.
    raw = field.float_vector.SerializeToString()
    size = len(field.float_vector.data)
    return np.frombuffer(raw[len(raw) - 4 * size :], DTYPES[kind]).reshape(-1, dim)


def _scalars(field: Any, kind: FieldType) -> pa.Array:
    element = ELEMENTS.get(kind)
    if element:
        values: list[Any] = [list(getattr(each, ARRAYS_OF[element][0]).data) for each in field.scalars.array_data.data]
    else:
        values = list(getattr(field.scalars, ARRAYS_OF[kind][0]).data)
        values = [value.decode() for value in values] if kind == "json" else values
    return pa.array(_with_nulls(values, list(field.valid_data)), ARROW_TYPES[kind])


def _with_nulls(values: list[Any], valid: list[bool]) -> list[Any]:
    """Answers hold a value in a null's place, or leave it out."""
    if not valid:
        return values
    if len(values) == len(valid):
        return [value if there else None for value, there in zip(values, valid, strict=True)]
    given = iter(values)
    return [next(given) if there else None for there in valid]


def held_of(rows: Iterable[dict[str, Any]], columns: Columns, vectors: VectorType, *, dim: int) -> Held:
    """The same from pymilvus' dicts."""
    found = list({row["id"]: row for row in rows}.values())
    if not found:
        return no_rows(columns, dim)
    fields = {
        name: pa.array([_plain(row.get(name), kind) for row in found], ARROW_TYPES[kind])
        for name, kind in columns.items()
        if kind is not None and name != "id"
    }
    return Held(keys=[row["id"] for row in found], vectors=np.stack([widen(row["vector"], vectors) for row in found]), fields=fields)


def _plain(value: Any, kind: FieldType) -> Any:
    if value is None:
        return None
    if kind in ELEMENTS:
        return list(value)
    if kind == "json":
        return value.decode() if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)
    return value
