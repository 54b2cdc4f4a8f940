"""What pymilvus and Milvus Lite do not promise: that it is where we look for it, and that all works where it is not."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from pymilvus.client.types import LoadState
from pymilvus.client.utils import ZILLIZ, get_server_type

from tasks.adapters.milvus import lite, protobuf
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.vector_index import _is_zilliz
from tests.builders.collections import part_of, spec_of, vectors_in

# Beyond these, run this file: what fails here is looked for elsewhere by then, and the public way serves, only slower.
SEEN_IN = {"pymilvus": ((2, 6, 17), (3, 0, 2)), "milvus-lite": ((3, 2, 0), (3, 2, 2))}


@pytest.mark.parametrize("name", SEEN_IN)
def test_it_was_looked_for_in_the_version_that_is_installed(name: str) -> None:
    first, last = SEEN_IN[name]
    installed = tuple(int(number) for number in re.findall(r"\d+", version(name))[:3])
    assert first <= installed <= last, f"see whether {name} {version(name)} still has what this file looks for, and widen SEEN_IN"


def test_it_is_where_it_is_looked_for(tmp_path: Path) -> None:
    target = MilvusTarget(str(tmp_path / "t.db"))
    stub = protobuf.stub_of(target._connection.client)
    assert all(hasattr(stub, call) for call in ("Upsert", "Query", "Import", "GetImportState"))
    assert lite.lite_servers is not None
    target.close()


def test_the_states_of_a_load_have_the_names_that_are_looked_for() -> None:
    assert {str(state).rpartition(".")[2] for state in LoadState} >= {"NotLoad", "Loading", "Loaded"}


@pytest.mark.parametrize(
    "uri", ["https://in03-a.serverless.gcp-us-west1.cloud.zilliz.com", "https://a.ZILLIZcloud.com:443", "http://milvus:19530"]
)
def test_zilliz_cloud_is_told_by_pymilvus_own_rule(uri: str) -> None:
    host = uri.removeprefix("https://").removeprefix("http://").partition(":")[0]
    assert _is_zilliz(uri) is (get_server_type(host) == ZILLIZ)


@pytest.mark.parametrize(("module", "missing"), [(protobuf, "schema_pb2"), (lite, "lite_servers")])
def test_without_it_the_public_way_serves(module: object, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, missing, None)
    target, part = MilvusTarget(str(tmp_path / "t.db")), part_of(["a", "b"])
    made = target.collection("c")
    made.ensure(spec_of("c"))
    made.upsert(part)
    assert (made.count(), made.compare(part).differences) == (2, ())
    assert made.search(vectors_in(part)[:1], 1)[0][0].id == "a"
    target.close()
