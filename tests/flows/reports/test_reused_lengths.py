"""What a report says of lengths and truncation is of all rows, whichever run encoded them, and it says where that is not so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.checkpoint import part_files
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import text_of
from tests.builders.memory_jobs import a_job
from tests.builders.pages import Page

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
ROWS, LIMIT = 40, 16


def write(folder: Path, *, edited: int) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    texts = [f"{text_of(row)} anew" if row < edited else text_of(row) for row in range(ROWS)]
    pq.write_table(pa.table({"id": [f"row-{row}" for row in range(ROWS)], "text": texts}), folder / "rows" / "a.parquet")


def reported(run_flow: RunFlow, job: dict[str, Any]) -> tuple[dict[str, Any], str]:
    page = Path(run_flow(job)["report"])
    return json.loads(page.with_name("report.json").read_text()), Page(page.read_text()).text


def test_rows_that_are_taken_over_bring_their_lengths_along(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    job = a_job(tmp_path, tiny_model, encoder__max_seq_length=LIMIT, target__mode="mirror")
    write(tmp_path, edited=0)
    first, _ = reported(run_flow, job)
    assert 0 < first["truncated"] < ROWS
    assert sum(first["lengths"].values()) == ROWS
    write(tmp_path, edited=3)
    second, said = reported(run_flow, job)
    assert (second["rows"]["embedded"], second["rows"]["reused"]) == (3, ROWS - 3)
    assert sum(second["lengths"].values()) == ROWS
    assert second["truncated"] == first["truncated"]
    assert "Based on" not in said
    write(tmp_path, edited=0)
    (tmp_path / "rows" / "a.parquet").rename(tmp_path / "rows" / "b.parquet")
    third, _ = reported(run_flow, job)
    assert third["rows"]["embedded"] == 0
    assert (third["truncated"], third["tokens_cut"], third["lengths"]) == (first["truncated"], first["tokens_cut"], first["lengths"])


def test_where_parts_of_an_older_version_kept_no_lengths_the_report_says_of_how_many_rows_it_speaks(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(tmp_path, tiny_model, encoder__max_seq_length=LIMIT, target__mode="mirror")
    write(tmp_path, edited=0)
    with monkeypatch.context() as older:
        older.setattr(part_files, "LENGTHS_META", b"of no version")
        reported(run_flow, job)
    write(tmp_path, edited=3)
    second, said = reported(run_flow, job)
    assert sum(second["lengths"].values()) == 3
    assert f"Based on 3 of {ROWS} rows" in said
