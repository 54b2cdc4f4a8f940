"""Milvus Lite, Milvus and Zilliz Cloud: the only home of pymilvus and grpc."""

import os

# gRPC itself writes to stderr (GOAWAY when a server stops, failed handshakes); the error that follows reports the cause.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
