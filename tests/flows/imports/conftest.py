"""A sealed job, and a collection of its own on the real server or in memory, which it is imported into."""

from __future__ import annotations

import math
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.builders.inprocess import flows_in_process
from tests.builders.kitestring import make_job, write_rows
from tests.flows.imports.attempts import ODD
from tests.servers.milvus import MilvusProcess
from tests.servers.prefect import PrefectServer


@pytest.fixture
def target(milvus_server: MilvusProcess, tmp_path: Path) -> dict[str, Any]:
    name = f"import_{uuid.uuid4().hex[:8]}"
    return {"uri": milvus_server.uri, "collection": name, "load": "import", "staging": str(tmp_path / "staging")}


@pytest.fixture
def in_memory() -> dict[str, Any]:
    return {"uri": f"memory://{uuid.uuid4().hex}", "collection": "rows", "load": "import"}


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: PrefectServer) -> dict[str, Any]:
    """A job whose three shards are sealed, with what is hard to import among their metadata."""
    folder = tmp_path_factory.mktemp("sealed")
    for first in (0, 30, 60):
        odd = {
            "n": pa.array([None if row % 7 == 0 else row for row in range(30)], pa.int64()),
            "say": pa.array([None if row == 3 else 'quo"te\n日本\\' for row in range(30)], pa.string()),
            "text": pa.array(["a kite " * (10_000 if row == 4 else 1) + str(first + row) for row in range(30)], pa.string()),
            "tags": pa.array([["a", "b"], None, []] * 10, pa.list_(pa.string())),
            "x": pa.array([ODD.get(row, row / 4) for row in range(30)], pa.float64()),
            "xs": pa.array([None if row == 6 else [math.nan, 0.5] for row in range(30)], pa.list_(pa.float64())),
        }
        write_rows(folder / "rows" / f"{first}.parquet", first, first + 30, **odd)
    document = make_job(folder, tiny_model, shards__rows=30, source__metadata=["n", "say", "tags", "x", "xs"])
    with flows_in_process(prefect_server) as run:
        run(document)
    return document
