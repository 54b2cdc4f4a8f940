"""How long a collection's load and its index are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pymilvus.client.types import LoadState

from tasks.adapters.backoff import RetryPolicy
from tasks.adapters.milvus.connection import Connection
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.vector_index import FLUSHED_ROWS, INDEX_STUCK_SECONDS, await_indexes, load, server_of
from tasks.domain.errors import Transient
from tasks.domain.job.index import Index, IndexType
from tests.builders.collections import part_of, spec_of, vectors_in
from tests.servers.milvus import MilvusProcess


class Server:
    """Answers as its rounds say; its clock goes on by what is slept."""

    def __init__(self, *rounds: dict[str, Any]) -> None:
        self.rounds: Iterator[dict[str, Any]] = iter(rounds)
        self.now, self.asked = 0.0, 0
        self.last = rounds[-1]

    def load_collection(self, name: str, *, timeout: float, _async: bool) -> None:
        assert _async  # the call itself does not wait
        assert timeout
        self.asked += 1

    def get_load_state(self, name: str, *, timeout: float) -> dict[str, Any]:
        return next(self.rounds, self.last)

    def describe_index(self, name: str, index: str, *, timeout: float) -> dict[str, Any]:
        return next(self.rounds, self.last)

    def sleep(self, seconds: float) -> None:
        self.now += 30 * seconds  # a slow server's second

    @property
    def connection(self) -> Any:
        patience = RetryPolicy(seconds=60, clock=lambda: self.now, sleep=self.sleep)
        return SimpleNamespace(
            client=self, lite=False, patience=patience, call=lambda action, _: action(), at=SimpleNamespace(name="there")
        )


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("https://in03-abc.api.gcp-us-west1.zillizcloud.com:443", "Zilliz Cloud"),
        ("https://in03-abc.serverless.gcp-us-west1.cloud.zilliz.com", "Zilliz Cloud"),
        ("https://in01-abc.ali-cn-hangzhou.vectordb.ZILLIZ.com.cn:19530", "Zilliz Cloud"),
        ("http://milvus:19530/zillizcloud", "Milvus"),
        ("http://zilliz:pass@milvus:19530", "Milvus"),
    ],
)
def test_zilliz_cloud_is_known_by_its_host(uri: str, kind: str) -> None:
    found = server_of(cast("Connection", SimpleNamespace(lite=False, uri=uri, version="2.5.4")))
    assert found.kind == kind


def loading(percent: int) -> dict[str, Any]:
    return {"state": LoadState.Loading, "progress": percent}


def test_a_load_that_goes_forward_is_waited_for_beyond_the_patience_of_a_call() -> None:
    server = Server(*(loading(percent) for percent in range(0, 100, 2)), {"state": LoadState.Loaded})
    load(server.connection, "c")
    assert server.now > 10 * 60
    assert server.asked == 1


def test_a_load_that_stands_still_is_told() -> None:
    server = Server(loading(40))
    with pytest.raises(
        Transient, match=rf"loading collection 'c' at there: 60% are left, without progress for {INDEX_STUCK_SECONDS:.0f} s"
    ):
        load(server.connection, "c")


def test_a_server_that_has_forgotten_a_load_is_asked_again() -> None:
    server = Server(loading(10), {"state": LoadState.NotLoad}, loading(10), {"state": LoadState.Loaded})
    load(server.connection, "c")
    assert server.asked == 2


def indexed(rows: int, *, pending: int) -> dict[str, Any]:
    return {"total_rows": 100, "indexed_rows": rows, "pending_index_rows": pending}


def test_an_index_that_stands_still_is_told_and_no_longer_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(indexed(30, pending=70), indexed(88, pending=12))
    await_indexes(server.connection, "c", spec_of("c"))
    assert "12 rows of 'c' are still not indexed" in caplog.text
    assert server.now > INDEX_STUCK_SECONDS


def test_rows_that_are_indexed_once_more_are_not_waited_for() -> None:
    """Milvus 2.3.5 was seen to tell 2,000,000 rows, all of them indexed, and 1,820,000 pending: it had merged segments."""
    server = Server(indexed(60, pending=40), indexed(100, pending=91))
    await_indexes(server.connection, "c", spec_of("c"))
    assert server.now < INDEX_STUCK_SECONDS


def test_milvus_lite_indexes_what_was_written_before_it_is_searched_however_long_that_takes(tmp_path: Path) -> None:
    made = MilvusTarget(str(tmp_path / "t.db"), patience=RetryPolicy(seconds=0.01)).collection("c")
    made.ensure(spec_of("c"))
    part = part_of([f"k{row}" for row in range(FLUSHED_ROWS)])
    made.upsert(part)
    made.flush_and_index()
    assert list(tmp_path.glob("t.db/**/indexes/*")), "nothing is indexed yet"
    assert made.search(vectors_in(part)[:1], 1)[0][0].id == "k0"
    made.target.close()


@pytest.mark.server
@pytest.mark.parametrize("kind", ["HNSW", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "SCANN"])
def test_an_index_of_every_type_is_built_without_a_parameter_in_the_job(milvus_server: MilvusProcess, kind: IndexType) -> None:
    """The server refuses HNSW without efConstruction, after everything is encoded and loaded."""
    name = f"built_{kind.lower()}"
    target = MilvusTarget(milvus_server.uri)
    made = target.collection(name)
    made.ensure(spec_of(name).model_copy(update={"index": Index(type=kind)}))
    part = part_of([f"k{row}" for row in range(300)])
    made.upsert(part)
    made.flush_and_index()
    assert made.search(vectors_in(part)[:1], 1)[0][0].id == "k0"
    target.close()
