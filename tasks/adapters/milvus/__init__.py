"""Milvus Lite, Milvus and Zilliz Cloud: the only home of pymilvus and grpc."""

import os

# gRPC writes of its own to stderr (GOAWAY where a server ends, failed handshakes); what it means is said by the error that follows.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
