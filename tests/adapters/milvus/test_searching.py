"""What Milvus Lite answers is what exact search over the same vectors and BM25 over the same texts say, as kept libraries have them."""

# ruff: noqa: N802 - the methods of a service are gRPC's
from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import bm25s
import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

from tasks.adapters.milvus import searching
from tasks.adapters.milvus.importer import RestImporter
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.milvus.searching import LITE_FIRST, LITE_SECONDS, QUERIES_PER_SEARCH, next_size
from tasks.adapters.targets.bm25 import Bm25
from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText
from tasks.domain.target.collection import Hit
from tasks.domain.target.full_text import BM25_B, BM25_K1, CANDIDATES, SPARSE_FIELD, Fusion, fuse
from tests.builders.collections import part_of, spec_of
from tests.builders.corpora.worded import DIM, passages, questions
from tests.servers.import_service import ImportService, serving

K = 10
PASSAGES = passages()
KEYS = [each.key for each in PASSAGES]
VECTORS = np.random.default_rng(3).standard_normal((len(PASSAGES), DIM)).astype(np.float32)
QUERIES = np.random.default_rng(4).standard_normal((40, DIM)).astype(np.float32)
WORDS = [asked["query"] for half in questions().values() for asked in half[:19]] + ["part", "E1000 A detail7 subject1"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusCollection]:
    made = MilvusTarget(str(tmp_path_factory.mktemp("lite") / "t.db")).collection("c")
    made.ensure(spec_of("c", dim=DIM, fields=(), full_text=FullText()))
    texts = [each.text for each in PASSAGES]
    made.upsert(pa.table({"id": KEYS, "vector": list(VECTORS), "text": texts, "shard": ["s"] * len(KEYS)}))
    made.flush_and_index()
    yield made
    made.target.close()


def same(hits: list[Hit], exact: np.ndarray) -> None:
    """The hits have the exact scores of the best rows; rows of one score may change places. exact: of shape (rows,)."""
    scores = dict(zip(KEYS, exact.tolist(), strict=True))
    best = [score for score in sorted(scores.values(), reverse=True)[:K] if score > 0]
    np.testing.assert_allclose([hit.score for hit in hits], best, rtol=1e-4)
    np.testing.assert_allclose([scores[hit.id] for hit in hits], best, rtol=1e-4)


def test_by_meaning_it_is_exact_search(loaded: MilvusCollection) -> None:
    cosines = (QUERIES / np.linalg.norm(QUERIES, axis=1)[:, None]) @ (VECTORS / np.linalg.norm(VECTORS, axis=1)[:, None]).T
    for hits, exact in zip(loaded.search(QUERIES, K), cosines, strict=True):
        same(hits, exact)


def test_by_words_it_is_bm25_and_so_is_the_twin(loaded: MilvusCollection) -> None:
    reference, twin = bm25s.BM25(k1=BM25_K1, b=BM25_B, method="lucene"), Bm25({each.key: each.text for each in PASSAGES})
    split = re.compile(r"\w+").findall
    reference.index([split(each.text.lower()) for each in PASSAGES], show_progress=False)
    for words, hits in zip(WORDS, loaded.search_text(WORDS, K), strict=True):
        known = [word for word in split(words.lower()) if word in reference.vocab_dict]
        exact = reference.get_scores(known) * (BM25_K1 + 1) if known else np.zeros(len(KEYS))  # a factor that Lucene leaves out
        same(hits, exact)
        np.testing.assert_allclose([score for _, score in twin.search(words, K)], [hit.score for hit in hits], rtol=1e-4)


def test_milvus_lite_is_asked_fewer_at_a_time_where_it_is_slow(loaded: MilvusCollection, monkeypatch: pytest.MonkeyPatch) -> None:
    words, client, asked = WORDS[: LITE_FIRST + 2], loaded._connection.client, []
    quick = loaded.search_text(words, K)
    for name in ("search", "hybrid_search"):
        real = getattr(client, name)

        def counted(of: str, *given: Any, real: Any = real, **how: Any) -> Any:
            asked.append(len(how["data"] if "data" in how else given[0][0].data))
            return real(of, *given, **how)

        monkeypatch.setattr(client, name, counted)
    monkeypatch.setattr(searching, "LITE_SECONDS", 0.0)
    assert loaded.search_text(words, K) == quick
    assert len(loaded.search_hybrid(QUERIES[: len(words)], words, K, Fusion())) == len(words)
    assert asked == 2 * [LITE_FIRST, 1, 1]


def test_milvus_lite_is_asked_as_many_as_it_may_answer_in_time() -> None:
    assert [next_size(8, took) for took in (0.0, LITE_SECONDS, 2 * LITE_SECONDS, 100 * LITE_SECONDS)] == [QUERIES_PER_SEARCH, 8, 4, 1]


@pytest.mark.parametrize("fusion", [Fusion(), Fusion(rrf_k=5), Fusion(weights=(0.3, 0.7))])
def test_by_both_it_is_the_two_fused(loaded: MilvusCollection, fusion: Fusion) -> None:
    found = loaded.search_hybrid(QUERIES, WORDS, K, fusion)
    for nearest, best, hits in zip(loaded.search(QUERIES, CANDIDATES), loaded.search_text(WORDS, CANDIDATES), found, strict=True):
        sides = [[(hit.id, hit.score) for hit in side] for side in (nearest, best)]
        worth = dict(fuse(sides, ("COSINE", "BM25"), fusion, 2 * CANDIDATES))
        np.testing.assert_allclose([hit.score for hit in hits], sorted(worth.values(), reverse=True)[:K], rtol=1e-4)
        np.testing.assert_allclose([worth[hit.id] for hit in hits], [hit.score for hit in hits], rtol=1e-4)


@pytest.mark.server
def test_a_server_without_full_text_refuses_it_before_anything_is_made(milvus_server) -> None:
    made = MilvusTarget(milvus_server.uri).collection("worded")
    for ask in (made.check, made.ensure):
        with pytest.raises(
            BadInput, match=r"target\.full_text needs Milvus 2\.5, and this is Milvus 2\.3\.5.*: set target\.full_text: off"
        ):
            ask(spec_of("worded", full_text=FullText()))
    assert made.describe() is None
    made.target.close()


def test_a_tokenizer_whose_package_is_not_installed_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.adapters.milvus.vector_index.find_spec", lambda _: None)
    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    with pytest.raises(BadInput, match="pip install jieba"):
        made.check(spec_of("c", full_text=FullText(analyzer={"tokenizer": "jieba"})))
    made.target.close()


class NewerServer(MilvusServicer):
    """What stands in for Milvus 2.6, of which none can be run here: it keeps descriptions, tries analyzers, and feeds no function from nulls."""

    def __init__(self, database: MilvusLite) -> None:
        super().__init__(database)
        self._descriptions: dict[str, str] = {}
        self.waited_for: list[str] = []

    def GetVersion(self, _request: Any, _context: Any) -> Any:
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version="v2.6.0")

    def RunAnalyzer(self, request: Any, _context: Any) -> Any:
        known = json.loads(request.analyzer_params).get("type", "standard") in {"standard", "english"}
        status = common_pb2.Status() if known else common_pb2.Status(code=1100, reason="unknown build-in analyzer")
        return milvus_pb2.RunAnalyzerResponse(status=status, results=[milvus_pb2.AnalyzerResult()] if known else [])

    def CreateCollection(self, request: Any, context: Any) -> Any:
        schema = schema_pb2.CollectionSchema.FromString(request.schema)
        fed = {name for function in schema.functions for name in function.input_field_names}
        if any(field.nullable for field in schema.fields if field.name in fed):
            return common_pb2.Status(code=1100, reason="function input field cannot be nullable")
        self._descriptions[request.collection_name] = schema.description
        return super().CreateCollection(request, context)

    def DescribeCollection(self, request: Any, context: Any) -> Any:
        answer = super().DescribeCollection(request, context)
        answer.schema.description = self._descriptions.get(answer.collection_name, "")
        return answer

    def DescribeIndex(self, request: Any, context: Any) -> Any:
        self.waited_for.append(request.index_name)
        return super().DescribeIndex(request, context)


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[tuple[MilvusTarget, NewerServer]]:
    servicer = NewerServer(MilvusLite(str(tmp_path / "newer")))
    server = grpc.server(futures.ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    target = MilvusTarget(f"http://127.0.0.1:{port}")
    yield target, servicer
    target.close()
    server.stop(0).wait(10)


def test_a_newer_server_is_asked_whether_it_has_the_analyzer_before_anything_is_made(newer: tuple[MilvusTarget, NewerServer]) -> None:
    target, _ = newer
    with pytest.raises(BadInput, match=r"target\.full_text\.analyzer is refused: .*unknown build-in analyzer.*: correct it, or set"):
        target.check(spec_of("c", full_text=FullText(analyzer={"type": "klingon"})))
    for analyzer in ({}, {"type": "english"}):
        target.check(spec_of("c", full_text=FullText(analyzer=analyzer)))
    assert target.names() == []


def test_a_newer_server_fills_the_field_from_texts_that_are_never_null_and_both_indexes_are_waited_for(
    newer: tuple[MilvusTarget, NewerServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tasks.adapters.milvus.milvus_collection.FLUSHED_ROWS", 1)
    target, servicer = newer
    made = target.collection("c")
    made.ensure(spec_of("c", full_text=FullText()))
    made.upsert(part_of(["a", "b"], text=["part E1", None]))
    made.flush_and_index()
    assert {"vector", SPARSE_FIELD} <= set(servicer.waited_for)
    assert [hit.id for hit in made.search_text(["e1"], 5)[0]] == ["a"]
    columns, nullable = made.form()
    assert (SPARSE_FIELD in columns, "text" in nullable) == (False, False)  # of a file to import: the server fills the one from the other
    assert made.compare(part_of(["a", "b"], text=["part E1", None])).differences == ()


def test_a_file_to_import_into_a_newer_server_has_texts_that_are_never_null_and_no_field_of_the_function(
    newer: tuple[MilvusTarget, NewerServer], tmp_path: Path
) -> None:
    target = MilvusTarget(newer[0].address, staging=str(tmp_path / "staging"))
    target.collection("c").ensure(spec_of("c", full_text=FullText()))
    loader, rows = target.bulk_loader(), part_of(["a", "b"], text=["part E1", None])
    with serving(ImportService("milvus")) as service, loader.stage("c", "c", tmp_path) as place:
        place.add(rows)
        files = place.files()
        loader.__dict__["_importer"] = RestImporter(service.url, token="s3cret", database="db")
        loader.start("c", files, idempotency_key="k")
        assert service.bodies == [{"dbName": "db", "collectionName": "c", "files": [[file] for file in files]}]
    (staged,) = map(pq.read_table, files)
    assert (set(staged.column_names), staged["text"].to_pylist()) == (set(rows.column_names), ["part E1", ""])
    target.close()
