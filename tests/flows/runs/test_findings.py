"""What was seen while rows were read, and set none aside, is told before a run, by it, and by every one that reuses its shards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.command_line.show import plan_text, status_text
from tasks.adapters.sources.text_files.csv_doubts import DOUBTFUL
from tasks.commands.inspect import look_at_plan, look_at_status
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.memory_jobs import a_job

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_a_quote_that_swallowed_rows_is_told_by_plan_run_status_and_report(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.csv").write_text('id,text\n1,one\n2,"two\n3,three\n4,four"\n5,five\n')
    document = a_job(tmp_path, tiny_model, source={"kind": "csv", "uri": str(folder), "id": "id", "text": "text"})
    job = parse_job(document)
    words = f"{DOUBTFUL}: 1, the first: 'a.csv lines 3 to 5'"
    assert f"note:       {words}" in plan_text(look_at_plan(job))
    for encoded in (3, 0):
        result = run_flow(document)
        assert (result["rows"]["embedded"], result["verified"]) == (encoded, True)
        assert [note for note in result["notes"] if "CSV" in note] == [words]
    assert f"note:   {words}" in status_text(look_at_status(job))
    [seal] = (tmp_path / "checkpoint").rglob("seal.json")
    assert json.loads(seal.read_text())["format_version"] == 3
