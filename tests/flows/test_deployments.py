"""deployments/prefect.yaml against a real Prefect server and a real process worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pymilvus import MilvusClient

from tasks.domain.job import Job
from tests.servers.prefect import ROOT, PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
POOL = "kitestring"
ROWS = 50


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer) -> PrefectServer:
    """The server with the pool and the deployments, made as deployments/README.md says."""
    prefect_server.create_process_pool(POOL)
    prefect_server.deploy()
    return prefect_server


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    """50 rows of Parquet, a tiny model, a folder and a Milvus Lite file."""
    table = pa.table({"id": [f"row-{i}" for i in range(ROWS)], "text": [f"the text of row {i}" for i in range(ROWS)]})
    pq.write_table(table, tmp_path / "rows.parquet")
    return {
        "corpus": "deployed",
        "source": {"kind": "parquet", "uri": str(tmp_path / "rows.parquet"), "id": "id", "text": ["text"]},
        "encoder": {"kind": "sentence-transformers", "model": str(tiny_model)},
        "checkpoint": str(tmp_path / "checkpoint"),
        "target": {"uri": str(tmp_path / "rows.db"), "collection": "deployed"},
        "compute": {"processes": 1},
    }


def rows_found(database: Path, collection: str) -> int:
    client = MilvusClient(str(database))
    try:
        client.load_collection(collection)
        counted = client.query(collection, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(counted[0]["count(*)"])
    finally:
        client.close()


@pytest.mark.parametrize("name", ["backfill", "nightly"])
def test_a_run_through_a_worker_ends_completed_and_verified(
    deployed: PrefectServer, job: dict[str, Any], tmp_path: Path, name: str
) -> None:
    run = deployed.run_deployment(f"embed-corpus/{name}", {"job": job, "overrides": {"shards.rows": 20}})
    deployed.work_once(POOL)
    assert deployed.wait(run) == "COMPLETED", deployed.logs(run)
    assert rows_found(tmp_path / "rows.db", "deployed") == ROWS
    shown = deployed.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert {artifact["key"]: artifact["type"] for artifact in shown} == {
        "progress-deployed": "progress",
        "shards-deployed": "table",
        "report-deployed": "markdown",
    }
    assert "50 of 50 rows are searchable; proved." in next(a["data"] for a in shown if a["key"] == "report-deployed")
    (report,) = (tmp_path / "checkpoint").glob("deployed/*/runs/*/report.json")
    assert json.loads(report.read_text())["verified"] is True


def test_a_wrong_job_is_refused_before_anything_starts(deployed: PrefectServer, job: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="'sorce' was unexpected"):
        deployed.run_deployment("embed-corpus/backfill", {"job": job | {"sorce": "typo"}})


def test_a_night_that_is_still_running_is_not_overtaken(deployed: PrefectServer) -> None:
    nightly = deployed.deployment("embed-corpus/nightly")
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [s["schedule"]["cron"] for s in nightly["schedules"]] == ["0 2 * * *"]


def test_a_worker_runs_the_flow_where_it_was_started(deployed: PrefectServer) -> None:
    """Neither in the folder of whoever deployed, nor in a copy of the checkout."""
    for name in ("backfill", "nightly"):
        step = {"prefect.deployments.steps.set_working_directory": {"directory": "."}}
        deployment = deployed.deployment(f"embed-corpus/{name}")
        assert deployment["pull_steps"] == [step]
        assert deployment["job_variables"]["working_dir"] == "."


def test_every_deployment_holds_a_whole_job_on_a_corpus_that_is_there() -> None:
    for deployment in yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]:
        job = Job.model_validate(deployment["parameters"]["job"])
        assert (ROOT / job.source.uri).exists()
