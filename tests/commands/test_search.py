"""Many questions to one searcher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.commands import search
from tasks.domain.job.job import Job
from tests.builders.collections import part_of, spec_of


def test_a_searcher_connects_once_for_all_its_questions_and_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = MilvusCollection(str(tmp_path / "t.db"), "c", alias="a")
    made.ensure(spec_of("c"))
    made.upsert(part_of(["one", "two"]))
    connections = 0
    connect = made._connection._connect

    def counted() -> Any:
        nonlocal connections
        connections += 1
        return connect()

    monkeypatch.setattr(made._connection, "_connect", counted)
    made.close()
    inspected = SimpleNamespace(model=SimpleNamespace(path=""), open_target=lambda _: made)
    plan = SimpleNamespace(inspected=inspected, spec=SimpleNamespace(name="c"), job=None)
    encoder = SimpleNamespace(embed_queries=lambda texts: np.ones((len(texts), spec_of("c").dim), np.float32))
    monkeypatch.setattr(search, "locate_job", lambda _: inspected)
    monkeypatch.setattr(search, "_settled", lambda _: SimpleNamespace(identity=SimpleNamespace(precision="float32")))
    monkeypatch.setattr(search, "Plan", lambda *_: plan)
    monkeypatch.setattr(search, "load_encoder", lambda *_, **__: encoder)

    with search.Searcher(cast("Job", SimpleNamespace(encoder=None))) as searcher:
        assert [len(searcher.search(text, 2)) for text in ("a", "b", "c")] == [2, 2, 2]
    assert connections == 1
    assert made._connection._client is None
