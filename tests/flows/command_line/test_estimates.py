"""What a run will take is told before it: by `plan`, which does nothing, and by a dry run, which seals and loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tasks.run.context
import tasks.run.estimate.estimator
from flows.command_line.show import plan_text
from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.object_store.registry import open_store
from tasks.commands.inspect import look_at_plan
from tasks.domain.errors import BadInput
from tasks.domain.estimate.rates import Rates
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.builders.models import TOKENS
from tests.servers.prefect import PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
Job = dict[str, Any]
DIM = 32


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> Job:
    """200 rows in two files, at a price."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 100)
    write_rows(tmp_path / "rows" / "b.parquet", 100, 200)
    return make_job(tmp_path, tiny_model, report__price_per_hour=3.6, report__examples=0)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def estimate_of(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = look_at_plan(parse_job(job))["estimate"]
    return found


def last_report(job: Job) -> dict[str, Any]:
    newest = max(Path(job["checkpoint"]).glob("*/*/runs/*/report.json"))
    found: dict[str, Any] = json.loads(newest.read_text())
    return found


def kept_rates(job: Job) -> Rates:
    (kept,) = Path(job["checkpoint"]).glob("*/encoders/*-rates.json")
    rates = read_document(open_store(job["checkpoint"]), str(kept.relative_to(job["checkpoint"])), Rates)
    assert rates
    return rates


def test_plan_starts_no_process_and_writes_nothing(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("plan has started the encoder")

    monkeypatch.setattr(tasks.run.context, "open_engine", refuse)
    before = files_below(tmp_path)
    found = estimate_of(job)
    assert files_below(tmp_path) == before
    assert found["rows"] == {"low": 200, "expected": 200, "high": 200}
    assert found["sample"]["rows"] == 200
    assert 3 * 200 < found["tokens"]["expected"] <= TOKENS * 200
    assert found["checkpoint_bytes"]["low"] > 200 * DIM * 4 * 0.8
    assert found["target_bytes"]["low"] > 200 * DIM * 4
    assert (found["seconds"], found["cost"], found["rate"]) == (None, None, None)
    assert "`kitestring run JOB --dry-run` measures it" in " ".join(found["notes"])


def test_a_dry_run_seals_and_loads_nothing_and_keeps_the_rate_alone(
    run_flow: RunFlow, job: Job, prefect_server: PrefectServer, tmp_path: Path
) -> None:
    result = run_flow(job, dry_run=True)
    assert result["dry_run"] is True
    assert result["rows"] == {"source": 200, "to_encode": 200}
    assert result["measured"]["rows"] >= 200
    assert result["estimate"]["seconds"]["low"] > 0
    assert result["estimate"]["cost"]["high"] == pytest.approx(result["estimate"]["seconds"]["high"] * 0.001)
    assert [Path(name).name.rpartition("-")[2] for name in files_below(Path(job["checkpoint"]))] == ["rates.json"]
    assert not (tmp_path / "rows.db").exists()
    assert [observation.kind for observation in kept_rates(job).observations] == ["dry run"]

    planned = estimate_of(job)
    assert planned["rate"] == result["estimate"]["rate"]
    assert "one dry run of this corpus on such a machine" in planned["rate"]["origin"]
    shown = prefect_server.request("/artifacts/filter", {"artifacts": {"key": {"any_": ["estimate-rows"]}}, "sort": "CREATED_DESC"})
    assert shown[0]["data"].startswith("# What a run of rows would take")
    assert "| time |" in shown[0]["data"]
    (run,) = prefect_server.request("/flow_runs/filter", {"flow_runs": {"id": {"any_": [shown[0]["flow_run_id"]]}}})
    assert run["name"].startswith("rows dry run 20")
    assert (run["state_type"], run["state_name"]) == ("COMPLETED", "Planned"), "in a list of runs it is none that filled a collection"


def test_a_run_says_how_far_off_its_estimate_was_and_what_is_sealed_is_paid_for(run_flow: RunFlow, job: Job, tmp_path: Path) -> None:
    run_flow(job, dry_run=True)
    run_flow(job)
    first = last_report(job)
    assert first["estimate"]["rows"]["expected"] == first["rows"]["embedded"] == 200
    assert first["estimate"]["tokens"]["expected"] == first["tokens"]  # every row was looked at
    assert first["estimate"]["seconds"]["expected"] > 0
    assert first["estimate"]["cost"]["expected"] > 0
    page = Path(first["page"]).read_text()
    assert "Estimate and outcome" in page
    assert [observation.kind for observation in kept_rates(job).observations] == ["dry run", "run"]
    assert kept_rates(job).observations[-1].tokens == first["tokens"]

    done = estimate_of(job)
    assert done["rows"]["high"] == done["tokens"]["high"] == done["checkpoint_bytes"]["high"] == done["target_bytes"]["high"] == 0
    write_rows(tmp_path / "rows" / "c.parquet", 200, 230)
    more = look_at_plan(parse_job(job))
    assert (more["rows"], more["shards"]) == ({"source": 230, "to_encode": 30}, {"planned": 3, "sealed": 2})
    assert more["estimate"]["rows"]["expected"] == more["estimate"]["rows_to_load"]["expected"] == 30
    run_flow(job)
    assert last_report(job)["estimate"]["tokens"]["expected"] == last_report(job)["tokens"]

    write_rows(tmp_path / "rows" / "c.parquet", 200, 220)  # nothing of it is new
    changed = look_at_plan(parse_job(job))
    assert (changed["estimate"]["at_most"], changed["estimate"]["rows"]) == (True, {"low": 0, "expected": 20, "high": 20})
    assert "at most 20 rows to encode" in plan_text(changed)
    assert "at most 20 to encode, 20 to load" in plan_text(changed)
    run_flow(job)
    assert last_report(job)["rows"]["embedded"] == 0


def test_what_was_sealed_elsewhere_has_only_to_be_loaded_and_its_timings_tell_a_rate(run_flow: RunFlow, job: Job, tmp_path: Path) -> None:
    run_flow(job)
    (rates,) = Path(job["checkpoint"]).glob("*/encoders/*-rates.json")
    rates.unlink()
    found = estimate_of(job | {"target": {"uri": str(tmp_path / "other.db"), "collection": "other"}})
    assert (found["rows"]["expected"], found["rows_to_load"]["expected"]) == (0, 200)
    assert found["checkpoint_bytes"]["high"] == 0 < found["target_bytes"]["low"]
    write_rows(tmp_path / "rows" / "c.parquet", 200, 230)
    assert "parts that earlier runs sealed, on any machine" in estimate_of(job)["rate"]["origin"]


def test_a_run_does_without_an_estimate_that_cannot_be_made(run_flow: RunFlow, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks.run.estimate.estimator.Estimator, "estimate", fail)
    assert run_flow(job)["verified"] is True
    assert last_report(job)["estimate"] is None
    assert "Estimate and outcome" not in Path(last_report(job)["page"]).read_text()


def test_rows_of_lines_are_told_as_a_range(job: Job, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": row, "text": "word " * (row % 90)}) + "\n" for row in range(20_000)))
    job["source"] = {"kind": "jsonl", "uri": str(tmp_path / "rows.jsonl"), "id": "id"}
    plan = look_at_plan(parse_job(job))
    assert plan["rows"] == {"source": None, "to_encode": None}
    rows = plan["estimate"]["rows"]
    assert rows["low"] < 20_000 < rows["high"]
    assert rows["high"] - rows["low"] < 10_000
    assert "rows are estimated from bytes, because these files do not state their number" in plan["estimate"]["notes"]


def test_a_dry_run_of_a_bad_job_is_refused_and_writes_nothing(run_flow: RunFlow, job: Job, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    with pytest.raises(BadInput, match="nowhere"):
        run_flow(job | {"source": {**job["source"], "uri": str(tmp_path / "nowhere")}}, dry_run=True)
    with pytest.raises(BadInput, match="price_per_hour"):
        parse_job(job | {"report": {"price_per_hour": -1}})
    assert files_below(tmp_path) == before


@pytest.mark.usefixtures("no_process_left")
def test_the_command_measures_with_real_processes_and_plan_then_knows(kitestring: Kitestring, job: Job) -> None:
    path = kitestring.job(job)
    before = kitestring("plan", path)
    assert before.code == 0, before.err
    assert "time:       not known" in before.out
    tried = kitestring("run", path, "--dry-run", "--json")
    assert tried.code == 0, tried.err
    assert tried.json["measured"]["startup_seconds"] > 0
    assert tried.json["shards"] == {"planned": 2, "sealed": 0}
    after = kitestring("plan", path)
    assert "tokens/s: one dry run of this corpus on such a machine" in after.out
    assert "at $3.60 an hour" in after.out
    assert kitestring("status", path).code == 3
