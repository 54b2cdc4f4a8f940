"""A collection of every kind: the in-memory twin, Milvus Lite (both ways in) and a real Milvus server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.targets.memory_collection import MemoryCollection
from tasks.domain.ports import Collection
from tests.builders.collections import Open, spec_of


@pytest.fixture(params=["memory", "lite", "lite rows", pytest.param("server", marks=pytest.mark.server)])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens collections on one server, and closes them in the end."""
    opened: list[Collection] = []
    where = {"memory": f"memory://{uuid.uuid4()}", "lite": str(tmp_path / "t.db"), "lite rows": str(tmp_path / "t.db")}
    uri = where[request.param] if request.param in where else request.getfixturevalue("milvus_server").uri

    def opens(name: str, *, alias: str | None = None, **how) -> Collection:
        alias = alias or f"{name}_alias"
        twin = request.param == "memory"
        made = MemoryCollection(uri, name, alias=alias) if twin else MilvusCollection(uri, name, alias=alias, **how)
        if request.param == "lite rows":
            made._columns = False
        opened.append(made)
        return made

    yield opens
    for each in opened:
        each.close()


@pytest.fixture
def name() -> str:
    return f"c_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def collection(opening: Open, name: str) -> Collection:
    made = opening(name)
    made.ensure(spec_of(name))
    return made
