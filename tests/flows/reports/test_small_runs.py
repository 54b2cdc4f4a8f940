"""The figures of small runs: rows that no file counts, a run that encodes little, and one that fails at its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import RunFailed
from tasks.domain.progress.snapshot import Snapshot
from tasks.run.progress import LISTENERS
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import text_of
from tests.builders.memory_jobs import a_job
from tests.builders.pages import Page

ROWS = 40


def write_lines(path: Path, rows: range, *, empty: int = 0) -> None:
    path.parent.mkdir(exist_ok=True)
    texts = [(row, "" if place < empty else text_of(row)) for place, row in enumerate(rows)]
    path.write_text("".join(json.dumps({"id": f"row-{row}", "text": text}) + "\n" for row, text in texts))


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    write_lines(tmp_path / "rows" / "a.jsonl", range(ROWS))
    return a_job(tmp_path, tiny_model, source__kind="jsonl")


def test_a_run_on_json_lines_knows_about_how_many_rows_there_are(
    run_flow: RunFlow, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Snapshot] = []
    monkeypatch.setattr("tasks.run.progress.LISTENERS", [*LISTENERS, heard.append])
    run_flow(job)
    assert (heard[-1].total, heard[-1].expected, heard[-1].share) == (None, ROWS, 1.0)


def test_the_report_of_a_run_that_failed_at_its_end_says_why_and_what_to_do(run_flow: RunFlow, job: dict[str, Any]) -> None:
    write_lines(Path(job["source"]["uri"]) / "b.jsonl", range(100, 100 + ROWS), empty=4)
    with pytest.raises(RunFailed, match=r"4 of 80 rows were quarantined, more than failures\.max_quarantined allows"):
        run_flow(job)
    (page,) = Path(job["checkpoint"]).rglob("report.html")
    read = Page(page.read_text())
    (verdict,) = [attributes["class"] for _, attributes in read.tags if "verdict" in (attributes.get("class") or "")]
    assert verdict == "verdict bad"
    assert "The run failed: 4 of 80 rows were quarantined, more than failures.max_quarantined allows (0.01): empty text (4)" in read.text
    assert "What to do: The good rows are stored. Correct the rows and run again" in read.text
    assert "76 of 80 rows are searchable, 4 were quarantined; verified, but the run failed." in read.text
