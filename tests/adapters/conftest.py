"""A collection of every kind: the in-memory twin, the tests' own dict, Milvus Lite (both ways in) and a real Milvus server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.domain.ports import Collection, Target
from tests.builders.collections import Open, spec_of
from tests.builders.more_kinds.dict_target import DictTarget


@pytest.fixture(params=["memory", "dict", "lite", "lite rows", pytest.param("server", marks=pytest.mark.server)])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens collections of one server, each by a connection of its own, and closes them in the end."""
    opened: list[Target] = []
    kind = request.param
    uri = request.getfixturevalue("milvus_server").uri if kind == "server" else str(tmp_path / "t.db")
    in_process = {"memory": partial(MemoryTarget, f"memory://{uuid.uuid4()}"), "dict": partial(DictTarget, str(uuid.uuid4()))}
    make = in_process.get(kind, partial(MilvusTarget, uri, columns=kind != "lite rows"))

    def opens(name: str) -> Collection:
        opened.append(make())
        return opened[-1].collection(name)

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
