"""What stands in for Milvus 2.6.2 and later, where an upsert may leave fields out (`partial_update`).

No such server can be run by these tests. This one is Milvus Lite behind a gRPC service that holds upserts to what Milvus' documents say: without
the flag every field has to be there; with it the fields that are left out stay as they are, and a key that is not there is refused.
"""

# ruff: noqa: N802 - the methods are gRPC's
from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

MISSING = "fieldSchema(%s) has no corresponding fieldData pass in: invalid parameter"


@dataclass
class Upserted:
    """What came with each upsert: its fields, and the bytes of its request."""

    fields: list[frozenset[str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


class MergingServicer(MilvusServicer):
    """`version`: what it calls itself; before 2.6.2 it does not know the flag."""

    def __init__(self, database: MilvusLite, seen: Upserted, version: str) -> None:
        super().__init__(database)
        self._seen, self._version = seen, version
        self._described: dict[str, str] = {}

    def GetVersion(self, request: Any, context: Any) -> Any:
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version=self._version)

    def CreateCollection(self, request: Any, context: Any) -> Any:
        self._described[request.collection_name] = self._schema_of(request).description
        return super().CreateCollection(request, context)

    def DescribeCollection(self, request: Any, context: Any) -> Any:
        answer = super().DescribeCollection(request, context)
        answer.schema.description = self._described.get(answer.collection_name, "")
        return answer

    def CreateIndex(self, request: Any, context: Any) -> Any:
        if request.field_name != "vector":
            return common_pb2.Status(code=1100, reason="Milvus Lite indexes no scalar fields")
        return super().CreateIndex(request, context)

    def Upsert(self, request: Any, context: Any) -> Any:
        given = frozenset(field.field_name for field in request.fields_data)
        self._seen.fields.append(given)
        self._seen.sizes.append(request.ByteSize())
        collection = self._get_collection(request, context)
        absent = {field.name for field in collection.schema.fields} - given
        if absent and not (request.partial_update and self._version >= "v2.6.2"):
            return milvus_pb2.MutationResult(status=common_pb2.Status(code=1100, reason=MISSING % min(absent)))
        return super().Upsert(request, context)

    @staticmethod
    def _schema_of(request: Any) -> Any:
        return schema_pb2.CollectionSchema.FromString(request.schema)


@contextmanager
def merging_process(folder: Path, version: str = "v2.6.2") -> Iterator[tuple[str, Upserted]]:
    """Its URI, and what came to it."""
    database, seen = MilvusLite(str(folder)), Upserted()
    server = grpc.server(futures.ThreadPoolExecutor(10))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MergingServicer(database, seen, version), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", seen
    server.stop(0).wait(10)
    database.close()
