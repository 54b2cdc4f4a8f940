"""A collection's schema, and the marker that records the spec it was created with.

The law "One model": the collection carries its spec. A server stores it as the collection's description; Milvus Lite drops
descriptions (3.2.2) but keeps properties, so there it is a property. Both are written when the collection is created, not later.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import ValidationError
from pymilvus import DataType, Function, FunctionType, MilvusClient

from tasks.domain.errors import BadInput
from tasks.domain.job.index import VectorType
from tasks.domain.target.collection import CollectionSpec
from tasks.domain.target.fields import ARRAY_ELEMENTS, ELEMENTS, VARCHAR_BYTES, FieldType, ScalarField
from tasks.domain.target.full_text import SPARSE_FIELD

MARKER = "kitestring"
MARKER_FORMAT = 1
SHARD_BYTES = 64

_TYPES: dict[FieldType, Any] = {
    "int64": DataType.INT64,
    "double": DataType.DOUBLE,
    "bool": DataType.BOOL,
    "varchar": DataType.VARCHAR,
    "json": DataType.JSON,
}
_VECTORS: dict[VectorType, Any] = {
    "float32": DataType.FLOAT_VECTOR,
    "float16": DataType.FLOAT16_VECTOR,
    "bfloat16": DataType.BFLOAT16_VECTOR,
    "int8": DataType.INT8_VECTOR,
}


class Marker(NamedTuple):
    """A collection's marker: the spec it was created with, and its random identity ("" in collections that predate identities)."""

    spec: CollectionSpec
    identity: str


def write_marker(spec: CollectionSpec, identity: str) -> str:
    """The marker as JSON text."""
    return json.dumps({MARKER: MARKER_FORMAT, "spec": spec.model_dump(mode="json"), "identity": identity}, ensure_ascii=True)


def read_marker(described: dict[str, Any], at: str) -> Marker:
    """The marker from a server's description of a collection.

    Raises:
        BadInput: the collection was created by something else, or by a newer Kitestring.
    """
    name = described.get("collection_name", "")
    properties = described.get("properties") or {}
    for text in (properties.get(MARKER), described.get("description")):
        try:
            marker = json.loads(text or "")
            if marker[MARKER] == MARKER_FORMAT:
                return Marker(CollectionSpec.model_validate(marker["spec"]), str(marker.get("identity", "")))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    raise BadInput(f"collection '{name}' at {at} was not made by this version of Kitestring: choose another target.collection, or drop it")


def build_schema(spec: CollectionSpec, marker: str = "") -> Any:
    """The server-side schema, with the marker as its description. Scalar fields and the text are nullable if the server supports it (2.5 and later, Lite).

    A partition key is not nullable, nor a text with full-text search: servers refuse that.
    """
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=marker)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=spec.id_length)
    if spec.sparse:
        schema.add_field("vector", DataType.SPARSE_FLOAT_VECTOR)
    else:
        schema.add_field("vector", _VECTORS[spec.vector_type], dim=spec.dim)
    if spec.full_text:
        words = {"enable_analyzer": True, "analyzer_params": spec.full_text.params}
        schema.add_field("text", DataType.VARCHAR, max_length=VARCHAR_BYTES, **words)
        schema.add_field(SPARSE_FIELD, DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, input_field_names=["text"], output_field_names=[SPARSE_FIELD]))
    elif spec.store_text:
        schema.add_field("text", DataType.VARCHAR, max_length=VARCHAR_BYTES, nullable=True)
    for field in spec.fields:
        key = field.name == spec.partition_key
        schema.add_field(field.name, nullable=not key, is_partition_key=key, **_typed(field))
    schema.add_field("shard", DataType.VARCHAR, max_length=SHARD_BYTES)
    return schema


def lost_of(described: dict[str, Any], spec: CollectionSpec) -> list[str]:
    """The parts of a collection that full-text search needs and that were dropped since its creation, in words."""
    if not spec.full_text:
        return []
    present = {field["name"] for field in described["fields"]}
    lost = [f"the field '{name}'" for name in ("text", SPARSE_FIELD) if name not in present]
    outputs = [name for function in described.get("functions") or [] for name in function["output_field_names"]]
    return lost or ([] if SPARSE_FIELD in outputs else [f"the BM25 function that fills the field '{SPARSE_FIELD}'"])


def _typed(field: ScalarField) -> dict[str, Any]:
    element = ELEMENTS.get(field.type)
    length = {"max_length": VARCHAR_BYTES} if (element or field.type) == "varchar" else {}
    if element:
        return {"datatype": DataType.ARRAY, "element_type": _TYPES[element], "max_capacity": ARRAY_ELEMENTS, **length}
    return {"datatype": _TYPES[field.type], **length}
