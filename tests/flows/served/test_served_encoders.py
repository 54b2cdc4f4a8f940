"""Whole jobs whose model is served: no rank, no torch, and no row of another model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.commands.search import Searcher
from tasks.domain.errors import BadInput, RunFailed
from tasks.domain.job.parse import parse_job
from tasks.worker.base import unit_length
from tests.builders.engines.embedding_server import MODEL, EmbeddingServer, embedding_server
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import text_of, write_rows
from tests.builders.memory_jobs import a_job, keys_in
from tests.builders.runs import ids, vectors_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
FILES, ROWS = 4, 100
NO_TORCH = """
import sys
import flows.embed, tasks.commands.search, tasks.adapters.engines.served_encoders, tasks.worker.encoders.registry
from tasks.worker.encoders.registry import import_library
import_library("served")
print([name for name in ("torch", "transformers", "sentence_transformers", "open_clip") if name in sys.modules])
"""


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture
def job(server: EmbeddingServer, tmp_path: Path) -> dict[str, Any]:
    for n in range(FILES):
        write_rows(tmp_path / "rows" / f"{n}.parquet", n * ROWS, (n + 1) * ROWS)
    sides = {"prompt": "row: ", "query_prompt": "query: "}
    return a_job(tmp_path, tmp_path, encoder=server.settings("tei", **sides), compute__unsaved_rows=60)


def test_a_job_is_encoded_by_a_server_that_fails_now_and_then_and_is_searched_through_it(
    run_flow: RunFlow, server: EmbeddingServer, job: dict[str, Any]
) -> None:
    server.faults = [("dies", ()), ("slow", (0.5,)), ("busy", (0,)), ("dies", ()), ("", ()), ("truncated", ())]
    result = run_flow(job)
    assert result["verified"] is True
    assert result["rows"]["embedded"] == FILES * ROWS
    assert keys_in(job) == sorted(ids(0, FILES * ROWS))
    rows = [text for text in server.texts if not text.startswith("query: ")]
    assert sorted(rows) == sorted(f"row: {text_of(row)}" for row in range(FILES * ROWS))
    report = json.loads(max(Path(job["checkpoint"]).glob("*/*/runs/*/report.json")).read_text())
    assert report["facts"]["device"] == "tei server"
    with Searcher(parse_job(job)) as searcher:
        server.texts.clear()
        assert len(searcher.search("wind", 3)) == 3
    assert server.texts == ["query: wind"]
    server.words = "others"
    with pytest.raises(BadInput, match="another model than these rows were embedded with"):
        Searcher(parse_job(job)).search("wind", 3)


def test_a_server_that_comes_back_with_another_model_ends_the_run_before_a_row_is_mixed(
    run_flow: RunFlow, server: EmbeddingServer, job: dict[str, Any], tmp_path: Path
) -> None:
    server.faults = [("", ())] * 6 + [("swapped", ("others",))]
    with pytest.raises(RunFailed, match="serves another model than the one this corpus was embedded with"):
        run_flow(job)
    kept = vectors_in(tmp_path / "checkpoint")
    server.words = MODEL
    expected = unit_length(server.vectors([f"row: {text_of(int(key.removeprefix('row-')))}" for key in kept]))
    assert 0 < len(kept) < FILES * ROWS
    np.testing.assert_allclose(np.array(list(kept.values())), expected, atol=1e-6)

    server.words = "others"
    with pytest.raises(BadInput, match=r"set encoder\.revision to a new name"):
        run_flow(job)
    server.words = MODEL
    assert run_flow(job)["rows"]["loaded"] == FILES * ROWS

    server.words = "others"
    changed = run_flow(job | {"encoder": job["encoder"] | {"revision": "2"}})
    assert (changed["rows"]["embedded"], changed["verified"]) == (FILES * ROWS, True)


def test_no_library_of_models_is_imported_for_a_served_one() -> None:
    found = subprocess.run([sys.executable, "-c", NO_TORCH], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
