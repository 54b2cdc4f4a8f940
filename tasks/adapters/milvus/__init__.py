"""Milvus Lite, Milvus and Zilliz Cloud: the only home of pymilvus and grpc."""
