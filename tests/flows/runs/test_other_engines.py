"""A whole job on an engine that the project does not have: it is one file and one line in a registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.domain.errors import RunFailed
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.engine import ENGINES
from tests.builders.engines.hash_encoders import by_hash
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import keys_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
KIND = "sentence-transformers"
FILES, ROWS = 6, 50


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of two hosts in threads, whose encoders are threads as well."""
    monkeypatch.setitem(ENGINES.known, "fake", "tests.builders.engines.fake_engine:FAKE")
    monkeypatch.setitem(ENCODERS.known, KIND, by_hash(KIND))


def written(folder: Path) -> list[str]:
    return [key for n in range(FILES) for key in write_rows(folder / "rows" / f"{n}.parquet", n * ROWS, (n + 1) * ROWS)]


def reported(folder: Path) -> dict[str, Any]:
    """The newest report."""
    newest = max((folder / "checkpoint").glob("*/*/runs/*/report.json"))
    report: dict[str, Any] = json.loads(newest.read_text())
    return report


def assert_done_once(result: dict[str, Any], folder: Path, keys: list[str], *, embedded: int, reused: int) -> None:
    assert result["verified"] is True
    rows = result["rows"]
    assert (rows["source"], rows["embedded"], rows["reused"], rows["loaded"]) == (len(keys), embedded, reused, len(keys))
    assert sorted(keys_in(str(folder / "rows.db"))) == sorted(keys)


@pytest.mark.usefixtures("fake")
def test_a_job_runs_on_an_engine_of_other_hosts_and_again_on_this_machine(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    keys = written(tmp_path)
    job = make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"})
    first = run_flow(job)
    assert_done_once(first, tmp_path, keys, embedded=len(keys), reused=0)
    ranks = reported(tmp_path)["ranks"]
    assert [work["rank"] for work in ranks] == [0, 0], "each host's ranks have its own numbers"
    assert len({work["host"] for work in ranks}) == 2, "both hosts have encoded"
    assert sum(work["rows"] for work in ranks) == len(keys)
    again = run_flow(make_job(tmp_path, tiny_model))  # the engine is no part of what a shard is
    assert_done_once(again, tmp_path, keys, embedded=0, reused=len(keys))


@pytest.mark.usefixtures("fake")
def test_a_file_that_breaks_on_another_host_fails_by_name_and_the_others_are_loaded(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    written(tmp_path)
    pq.write_table(pa.table({"id": ["one", "one"], "text": ["the one", "that was"]}), tmp_path / "rows" / "doubled.parquet")
    with pytest.raises(RunFailed, match=r"1 of 7 shards failed; the first: doubled\.parquet"):
        run_flow(make_job(tmp_path, tiny_model, compute__engine={"kind": "fake"}))
    report = reported(tmp_path)
    assert report["rows"]["loaded"] == FILES * ROWS
    ((name, row),) = [(failed["name"], failed["row"]) for failed in report["failures"]]
    assert (name, row) == ("doubled.parquet row groups 0-0", 0)
