"""Many questions to one searcher."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.commands import search
from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.job import Job
from tasks.run.promotion.query_encoder import QueryEncoder
from tasks.worker.encoders import registry
from tests.builders.collections import part_of, spec_of


def test_a_searcher_connects_once_for_all_its_questions_and_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    connection = made._connection
    made.ensure(spec_of("c"))
    made.upsert(part_of(["one", "two"]))
    connections = 0
    connect = connection._connect

    def counted() -> Any:
        nonlocal connections
        connections += 1
        return connect()

    monkeypatch.setattr(connection, "_connect", counted)
    made.target.close()
    inspected = SimpleNamespace(model=SimpleNamespace(path=""), open_target=lambda: made.target)
    plan = SimpleNamespace(inspected=inspected, spec=SimpleNamespace(name="c"), job=None)
    encoder = SimpleNamespace(embed_queries=lambda texts: np.ones((len(texts), spec_of("c").dim), np.float32))
    monkeypatch.setattr(search, "locate_job", lambda _: inspected)
    monkeypatch.setattr(search, "_pinned", lambda _: SimpleNamespace(identity=SimpleNamespace(precision="float32"), facts=None))
    monkeypatch.setattr(search, "Plan", lambda *_: plan)
    monkeypatch.setattr(search, "QueryEncoder", lambda *_, **__: encoder)

    with search.Searcher(cast("Job", SimpleNamespace(encoder=None))) as searcher:
        assert [len(searcher.search(text, 2)) for text in ("a", "b", "c")] == [2, 2, 2]
    assert connections == 1
    assert connection._client is None


def test_a_question_is_embedded_once_and_in_float32_where_its_precision_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    failing = {"float32"}

    def opened(_encoder: Any, *, model_path: str, precision: str) -> Any:
        def embed(_asked: list[str]) -> Any:
            asked.append(precision)
            if precision in failing:
                raise RuntimeError("mat1 and mat2 must have the same dtype")
            return np.zeros((1, 2), np.float32)

        return SimpleNamespace(embed_queries=embed, embed_pictures=embed, close=lambda: None)

    def ask(precision: str) -> list[str]:
        asked.clear()
        encoder = QueryEncoder(cast("Encoder", None), model_path="", precision=cast("Precision", precision))
        encoder.embed_queries(["a"])
        encoder.embed_pictures(["b"])
        return asked

    monkeypatch.setattr(registry, "open_encoder", opened)
    assert ask("bfloat16") == ["bfloat16", "bfloat16"]
    with pytest.raises(RuntimeError, match="dtype"):
        ask("float32")
    failing.symmetric_difference_update({"float32", "bfloat16"})
    assert ask("bfloat16") == ["bfloat16", "float32", "float32"]


def test_threads_take_turns_at_a_model_that_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, opened = 0, 0, 0

    def embed(texts: list[str]) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)  # where another one would come in
        inside -= 1
        return np.zeros((len(texts), 2), np.float32)

    def open_encoder(_encoder: Any, **_: Any) -> Any:
        nonlocal opened
        opened += 1
        time.sleep(0.01)
        return SimpleNamespace(embed_queries=embed, close=lambda: None)

    monkeypatch.setattr(registry, "open_encoder", open_encoder)
    encoder = QueryEncoder(cast("Encoder", None), model_path="", precision="float32")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: encoder.embed_queries(["a"]), range(16)))
    assert (most, opened) == (1, 1)


def test_a_filter_that_is_none_is_told_before_a_model_is_loaded_for_it(tmp_path: Path) -> None:
    loads: list[str] = []

    def load(asked: list[str]) -> Any:
        loads.extend(asked)
        return np.ones((len(asked), spec_of("c").dim), np.float32)

    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    made.ensure(spec_of("c"))
    made.upsert(part_of(["one", "two"]))
    encoder = SimpleNamespace(loaded=False, embed_queries=load, embed_pictures=load)
    with closing(made.target):
        asked = search.CollectionSearch(made, cast("QueryEncoder", encoder))
        for ask in (asked.search, asked.search_picture):
            with pytest.raises(BadInput, match=r"--filter 'lang = de' was refused .*: filter by the fields id, text"):
                ask("words", 2, expression="lang = de")
        assert loads == []
        assert [hit.id for hit in asked.search("words", 2, expression='id == "one"')] == ["one"]
        assert loads == ["words"]


def test_a_question_by_words_alone_waits_for_no_model_and_others_say_how_long_they_did(tmp_path: Path) -> None:
    loads: list[str] = []
    made = MilvusTarget(str(tmp_path / "t.db")).collection("c")
    made.ensure(spec_of("c"))
    encoder = SimpleNamespace(loaded=False, load=lambda: time.sleep(0.01) or loads.append("model"))
    with closing(made.target):
        asked = search.CollectionSearch(made, cast("QueryEncoder", encoder))
        assert asked.wait_for_encoder("", search.SearchOptions(mode="text")) == 0
        with pytest.raises(BadInput, match="lang = de"):
            asked.wait_for_encoder("lang = de", search.SearchOptions(mode="dense"))
        assert loads == []
        assert asked.wait_for_encoder("", search.SearchOptions(mode="dense")) >= 0.01
        assert loads == ["model"]
