"""From a part's Arrow columns to what Milvus takes: as row dicts or as columns.

Two ways in, one content. Row dicts go through pymilvus' public `upsert`. Columns fill the request's protobuf directly,
without a Python float for each number: about twice as fast, and the same bytes on the wire (a test compares them); they
need the gRPC stub that pymilvus keeps private, so row dicts stay for a pymilvus that hides it elsewhere.

A server that knows no null (before 2.5) gets in its place: '' for varchar, NaN for double (no comparison is true for
it), the smallest int64 for int64 (below every range anybody asks for), false for bool, JSON's own null, and an empty
array. Reading gives null again for all but varchar, bool and arrays (a null array comes back empty from Milvus Lite, too).
Such a server also takes no JSON but objects: a list or a bare value is kept as `{"kitestring_value": ...}`, which reading
undoes and a filter has to name. A partition key can be null nowhere, and is treated so everywhere.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymilvus.exceptions import MilvusException
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from tasks.adapters.rows.collection_rows import Columns, ends_of, lengths_of, vectors_of, whole
from tasks.adapters.rows.vector_types import narrow
from tasks.domain.errors import Permanent
from tasks.domain.job.index import VectorType
from tasks.domain.target.fields import ELEMENTS, FieldType

WRAPPED = "kitestring_value"
INSTEAD_OF_NULL: dict[FieldType, Any] = {"varchar": "", "double": float("nan"), "int64": -(2**63), "bool": False, "json": "null"}

ARRAYS_OF: dict[FieldType, tuple[str, Any, int]] = {
    "varchar": ("string_data", schema_pb2.StringArray, schema_pb2.VarChar),
    "double": ("double_data", schema_pb2.DoubleArray, schema_pb2.Double),
    "int64": ("long_data", schema_pb2.LongArray, schema_pb2.Int64),
    "bool": ("bool_data", schema_pb2.BoolArray, schema_pb2.Bool),
    "json": ("json_data", schema_pb2.JSONArray, schema_pb2.JSON),
}
VECTORS_OF: dict[VectorType, tuple[str, int]] = {
    "float16": ("float16_vector", schema_pb2.Float16Vector),
    "bfloat16": ("bfloat16_vector", schema_pb2.BFloat16Vector),
    "int8": ("int8_vector", schema_pb2.Int8Vector),
}


def fit_fields(rows: pa.Table, columns: Columns, nullable: Names[str]) -> pa.Table:
    """Put what a server without null takes in place of what it does not, in every field that cannot be null."""
    for name, kind in columns.items():
        if kind is None or name in nullable:
            continue
        if name in ("id", "shard") and rows[name].null_count:
            raise Permanent(f"a part has rows with no {name}")
        column = _empty_for_null(rows[name]) if kind in ELEMENTS else rows[name].fill_null(INSTEAD_OF_NULL[kind])
        column = _wrap(column) if kind == "json" else column
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _wrap(column: pa.ChunkedArray) -> pa.ChunkedArray:
    plain = pc.or_(pc.match_substring_regex(column, r"^\s*\{"), pc.equal(column, "null"))
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


def as_rows(rows: pa.Table, columns: Columns, dim: int, *, vectors: VectorType = "float32") -> list[dict[str, Any]]:
    """The public form: one dict a row."""
    narrowed = narrow(vectors_of(rows, dim), vectors)
    values: dict[str, Any] = {name: narrowed if kind is None else rows[name].to_pylist() for name, kind in columns.items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def as_request(
    rows: pa.Table, columns: Columns, dim: int, *, collection: str, nullable: Names[str], vectors: VectorType = "float32"
) -> Any:
    """The protobuf form: one `FieldData` a column."""
    narrowed = narrow(vectors_of(rows, dim), vectors)
    fields = [
        _vector_field(name, narrowed, vectors) if kind is None else _scalar_field(name, kind, rows[name], nullable=name in nullable)
        for name, kind in columns.items()
    ]
    return milvus_pb2.UpsertRequest(collection_name=collection, num_rows=rows.num_rows, fields_data=fields)


def _vector_field(name: str, vectors: np.ndarray, kind: VectorType) -> Any:
    raw, dim = vectors.tobytes(), vectors.shape[1]
    if kind != "float32":
        slot, number = VECTORS_OF[kind]
        return schema_pb2.FieldData(type=number, field_name=name, vectors=schema_pb2.VectorField(dim=dim, **{slot: raw}))
    # A packed `repeated float data = 1` is its tag, its length and the little-endian floats.
    floats = schema_pb2.FloatArray.FromString(b"\x0a" + _varint(len(raw)) + raw)
    return schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name=name, vectors=schema_pb2.VectorField(dim=dim, float_vector=floats))


def _scalar_field(name: str, kind: FieldType, column: pa.ChunkedArray, *, nullable: bool) -> Any:
    present = [v for v in column.to_pylist() if v is not None]
    valid = column.is_valid().to_pylist() if nullable else []
    element = ELEMENTS.get(kind)
    number = schema_pb2.Array if element else ARRAYS_OF[kind][2]
    scalars = _array_of(present, element) if element else _values(present, kind)
    return schema_pb2.FieldData(type=number, field_name=name, scalars=scalars, valid_data=valid)


def _values(values: list[Any], kind: FieldType) -> Any:
    slot, array, _ = ARRAYS_OF[kind]
    return schema_pb2.ScalarField(**{slot: array(data=[v.encode() for v in values] if kind == "json" else values)})


def _array_of(arrays: list[list[Any]], element: FieldType) -> Any:
    return schema_pb2.ScalarField(array_data=schema_pb2.ArrayArray(data=[_values(values, element) for values in arrays]))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def stub_of(client: Any) -> Any | None:
    """The gRPC stub behind a client; None where this pymilvus keeps it elsewhere."""
    connection = getattr(client, "_get_connection", lambda: None)()
    stub = getattr(connection, "_stub", None)
    return stub if hasattr(stub, "Upsert") else None


def send(stub: Any, request: Any, *, database: str, timeout: float) -> None:
    """Upsert a request in the protobuf form; returns when acknowledged, raises what pymilvus would."""
    answer = stub.Upsert(request, timeout=timeout, metadata=[("dbname", database)])
    if answer.status.code or answer.status.error_code:
        raise MilvusException(answer.status.code, answer.status.reason, answer.status.error_code)
