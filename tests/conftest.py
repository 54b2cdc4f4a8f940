"""Real parts for the tests: each module below starts one and stops it."""

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
