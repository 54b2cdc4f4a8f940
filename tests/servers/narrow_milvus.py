"""What stands in for Milvus 2.6 where vectors of other types than float32 are stored.

No server of 2.4 and later can be run by these tests. This one is Milvus Lite behind a gRPC service that takes and gives float16,
bfloat16 and int8 vectors in the messages that pymilvus' protocol has for them, and refuses everything that is not in their form.
"""

# ruff: noqa: N802 - the methods are gRPC's
from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from tasks.adapters.rows.vectors.vector_types import DTYPES

SLOTS = {
    schema_pb2.Float16Vector: ("float16_vector", DTYPES["float16"]),
    schema_pb2.BFloat16Vector: ("bfloat16_vector", DTYPES["bfloat16"]),
    schema_pb2.Int8Vector: ("int8_vector", DTYPES["int8"]),
}


class NarrowServicer(MilvusServicer):
    """Keeps each collection's vectors as float32 in Milvus Lite, which holds every number of the other types exactly."""

    def __init__(self, database: MilvusLite) -> None:
        super().__init__(database)
        self._made: dict[str, tuple[int, str]] = {}  # collection: its type of vectors, its description

    def GetVersion(self, request: Any, context: Any) -> Any:
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version="v2.6.0")

    def CreateCollection(self, request: Any, context: Any) -> Any:
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
        (vector,) = [field for field in schema.fields if field.data_type in SLOTS]
        self._made[request.collection_name] = (vector.data_type, schema.description)
        vector.data_type = schema_pb2.FloatVector
        request.schema = schema.SerializeToString()
        return super().CreateCollection(request, context)

    def DescribeCollection(self, request: Any, context: Any) -> Any:
        answer = super().DescribeCollection(request, context)
        if answer.status.code:
            return answer
        kind, answer.schema.description = self._made[answer.collection_name]
        for field in answer.schema.fields:
            field.data_type = kind if field.data_type == schema_pb2.FloatVector else field.data_type
        return answer

    def CreateIndex(self, request: Any, context: Any) -> Any:
        if request.field_name != "vector":
            return common_pb2.Status(code=1100, reason="Milvus Lite indexes no scalar fields")
        return super().CreateIndex(request, context)

    def Upsert(self, request: Any, context: Any) -> Any:
        (field,) = [field for field in request.fields_data if field.HasField("vectors")]
        slot, kind = SLOTS[self._kind(request)]
        assert (field.type, field.vectors.WhichOneof("data")) == (self._kind(request), slot)
        numbers = np.frombuffer(getattr(field.vectors, slot), kind)
        assert len(numbers) == request.num_rows * field.vectors.dim
        field.type = schema_pb2.FloatVector
        field.vectors.float_vector.data.extend(numbers.astype(np.float32))
        return super().Upsert(request, context)

    def Query(self, request: Any, context: Any) -> Any:
        answer = super().Query(request, context)
        for field in answer.fields_data:
            if field.type == schema_pb2.FloatVector:
                slot, kind = SLOTS[self._kind(request)]
                raw = np.array(field.vectors.float_vector.data, np.float32).astype(kind).tobytes()
                field.type = self._kind(request)
                setattr(field.vectors, slot, raw)
        return answer

    def Search(self, request: Any, context: Any) -> Any:
        group = common_pb2.PlaceholderGroup.FromString(request.placeholder_group)
        (asked,) = group.placeholders
        assert asked.type == self._kind(request)
        vectors = [np.frombuffer(raw, SLOTS[asked.type][1]).astype("<f4").tobytes() for raw in asked.values]
        floats = common_pb2.PlaceholderValue(tag=asked.tag, type=common_pb2.FloatVector, values=vectors)
        request.placeholder_group = common_pb2.PlaceholderGroup(placeholders=[floats]).SerializeToString()
        return super().Search(request, context)

    def _kind(self, request: Any) -> int:
        return self._made[self._get_collection(request, None).name][0]


@contextmanager
def narrow_process(folder: Path) -> Iterator[str]:
    """Its URI."""
    database = MilvusLite(str(folder))
    server = grpc.server(futures.ThreadPoolExecutor(10))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(NarrowServicer(database), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0).wait(10)
    database.close()


@pytest.fixture
def narrow_milvus(tmp_path: Path) -> Iterator[str]:
    """Its URI."""
    with narrow_process(tmp_path / "narrow") as uri:
        yield uri
