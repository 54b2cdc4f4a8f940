"""Real parts for the tests: each module below starts one and stops it."""

import gc

pytest_plugins = [
    "tests.servers.s3",
    "tests.servers.faulty_s3",
    "tests.servers.milvus",
    "tests.servers.narrow_milvus",
    "tests.servers.prefect",
    "tests.models",
    "tests.flows.kitestring",
    "tests.flows.inprocess",
]


def pytest_collection_finish() -> None:
    """What imports made stays to the end; gone through again and again, its million objects took a second every few tests."""
    gc.collect()
    gc.freeze()
