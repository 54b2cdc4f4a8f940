"""deployments/prefect.yaml against a real Prefect server and a real process worker."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import prefect
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from docker.types import HostConfig
from prefect.events.schemas.automations import AutomationCore
from pymilvus import MilvusClient

from flows.job_file import read_job
from tasks.domain.job.job import Job
from tests.servers.prefect import ROOT, PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
POOL = "kitestring"
ROWS = 50
SCHEDULED_SECONDS = 150.0  # the scheduler looks at changed deployments every 5 s, and at all of them every 60 s
DUE_EVERY_SECONDS = 60  # so that a run is due soon however long deploying takes
NOT_IN_NEWER_WORKERS = {"container_wait_timeout", "stream_output", "task_start_timeout_seconds", "task_watch_poll_interval"}


@pytest.fixture(scope="module")
def deployed(prefect_server: PrefectServer, notified: Notified) -> PrefectServer:
    """The server with the pools, the deployments and the automations, made as deployments/README.md says."""
    prefect_server.install(KITESTRING_NOTIFY=notified.url)
    return prefect_server


class Notified(ThreadingHTTPServer):
    """Somebody's webhook, and what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Hook)
        self.url, self.told = f"http://127.0.0.1:{self.server_port}/", Queue[dict[str, str]]()


def told_of(notified: Notified, subject: str, seconds: float = 60) -> dict[str, str]:
    """The notification of this subject; those of other tests' runs may come before it."""
    deadline = time.monotonic() + seconds
    while True:
        told = notified.told.get(timeout=max(0, deadline - time.monotonic()))
        if told["subject"] == subject:
            return told


class _Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Notified)
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def notified() -> Iterator[Notified]:
    with Notified() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


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


def test_a_run_through_a_worker_ends_completed_and_verified_and_is_audited(
    deployed: PrefectServer, job: dict[str, Any], tmp_path: Path
) -> None:
    run = deployed.run_deployment("embed-corpus/backfill", {"job": job, "overrides": {"shards.rows": 20}})
    deployed.work_once(POOL)
    assert deployed.wait(run) == "COMPLETED", deployed.logs(run)
    assert "rank=0 parts=" in deployed.logs(run)
    events = sorted(events_of(deployed, run, "kitestring.run.verified"), key=lambda event: event["occurred"])
    assert [event["event"].removeprefix("kitestring.") for event in events] == [
        "run.started",
        "shard.sealed",
        "shard.loaded",
        "collection.promoted",
        "run.verified",
    ]
    shown = deployed.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
    assert {artifact["key"]: artifact["type"] for artifact in shown} == {
        "progress-deployed": "progress",
        "shards-deployed": "table",
        "report-deployed": "markdown",
    }
    assert "50 of 50 rows are searchable; verified." in next(a["data"] for a in shown if a["key"] == "report-deployed")
    (report,) = (tmp_path / "checkpoint").glob("deployed/*/runs/*/report.json")
    assert json.loads(report.read_text())["verified"] is True

    audit = deployed.run_deployment("audit-collection/audit", {"job": job, "overrides": {"shards.rows": 20}})
    deployed.work_once(POOL)
    assert deployed.wait(audit) == "COMPLETED", deployed.logs(audit)
    shown = deployed.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [audit]}}})
    assert [(a["key"], a["data"].splitlines()[0]) for a in shown] == [("audit-deployed", "# Verified: 50 rows in 1 shards")]
    assert rows_found(tmp_path / "rows.db", "deployed") == ROWS


def events_of(server: PrefectServer, run: str, last: str, seconds: float = 30) -> list[dict[str, Any]]:
    """Kitestring's events of a run in the order of time, once the last is there: they are written down a moment later."""
    deadline = time.monotonic() + seconds
    related = {"id": [f"prefect.flow-run.{run}"]}
    while True:
        asked = {"filter": {"event": {"prefix": ["kitestring."]}, "any_resource": related, "order": "ASC"}, "limit": 50}
        found: list[dict[str, Any]] = server.request("/events/filter", asked)["events"]
        if any(event["event"] == last for event in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"job": {"sorce": "typo"}}, "'sorce' was unexpected"),
        ({"job": {"source": {"kind": "exel", "uri": "a"}}}, "job.source"),
        ({"job": {"compute": {"processes": 0}}}, "0 is less than the minimum of 1"),
        ({"job": {"target": {"mode": "miror"}}}, "'miror' is not one of"),
        ({"job": {"failures": {"max_quarantined": 2}}}, "2 is greater than the maximum of 1"),
        ({"job": {}, "token": "typed in"}, "'typed in' is not valid"),
        ({"job": {}, "dry_run": "perhaps"}, "'perhaps' is not of type 'boolean'"),
        ({"job": {"report": {"price_per_hour": -1}}}, "-1"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_starts(deployed: PrefectServer, parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        deployed.create_run("embed-corpus/backfill", parameters)
    assert refused.value.code == 409
    assert said in json.loads(refused.value.read())["detail"]


def test_the_form_has_a_title_and_a_description_everywhere_and_tabs_for_the_unions(deployed: PrefectServer) -> None:
    schema = deployed.deployment("embed-corpus/backfill")["parameter_openapi_schema"]
    assert list(schema["properties"]) == ["job", "overrides", "token", "dry_run"]
    assert schema["properties"]["dry_run"]["title"] == "Dry run"
    assert schema["properties"]["dry_run"]["description"].startswith("Encode a sample")
    form = drawn(schema, "job")
    job = form["properties"]
    assert list(job)[:5] == ["corpus", "source", "encoder", "checkpoint", "target"]
    tabs = ["Image folder", "Table files", "Text files", "WebDataset", "Delta table", "Iceberg table"]
    assert [tab["title"] for tab in job["source"]["anyOf"]] == tabs
    assert [tab["title"] for tab in job["encoder"]["anyOf"]] == ["sentence-transformers", "open_clip", "Served", "Sparse"]
    assert drawn(schema, "token")["block_type_slug"] == "secret"  # drawn as a choice of saved blocks
    bare = [path for path, field in fields_of(schema, form) if not (field.get("description") and field.get("title"))]
    assert not bare
    untitled = [path for path, field in fields_of(schema, form) if any("title" not in tab for tab in field["anyOf"])]
    assert not untitled


def drawn(schema: dict[str, Any], parameter: str) -> dict[str, Any]:
    """The definition that the form finds for a parameter, by the name as it stands."""
    found: dict[str, Any] = schema["definitions"][schema["properties"][parameter]["$ref"].removeprefix("#/definitions/")]
    return found


def fields_of(schema: dict[str, Any], model: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field that the form shows, by its dotted path; what a reference leads to counts for it."""

    def led_to(field: dict[str, Any]) -> dict[str, Any]:
        return {**schema["definitions"][field["$ref"].rpartition("/")[2]], **field} if "$ref" in field else field

    for name, field in model["properties"].items():
        named, shown = f"{path}.{name}".lstrip("."), led_to(field)
        tabs = [led_to(tab) for tab in shown.get("anyOf", [])]
        yield named, {**shown, "anyOf": tabs}
        for below in [shown, *tabs]:
            if "properties" in below:
                yield from fields_of(schema, below, named)


def test_the_tab_of_a_job_is_the_one_that_shares_most_keys_with_it(deployed: PrefectServer) -> None:
    """So Prefect's form chooses: the first with the most."""
    tabs = drawn(deployed.deployment("embed-corpus/backfill")["parameter_openapi_schema"], "job")["properties"]["source"]["anyOf"]
    for value, title in [
        ({"kind": "jsonl", "uri": "a", "text": ["b"]}, "Table files"),
        ({"kind": "images", "uri": "a"}, "Image folder"),
        ({"kind": "text-files", "uri": "a", "suffixes": [".md"], "chunks": {"split": "markdown"}}, "Text files"),
        ({"kind": "webdataset", "uri": "a", "embed": "text"}, "WebDataset"),
    ]:
        assert max(tabs, key=lambda tab: len(set(value) & set(tab["properties"])))["title"] == title


def test_the_form_may_send_what_a_format_does_not_have() -> None:
    """One tab for Parquet, JSON Lines and CSV; the form fills in every default of it."""
    idle = {"delimiter": ",", "quote": '"', "escape": ""}
    assert Job.model_validate({"source": {"kind": "jsonl", "uri": "a", "encoding": "utf-8", **idle}}).source.kind == "jsonl"
    assert Job.model_validate({"source": {"kind": "parquet", "uri": "a", "encoding": "utf-8", **idle}}).source.kind == "parquet"


@pytest.mark.parametrize("name", ["kitestring", "kitestring-docker", "kitestring-kubernetes", "kitestring-ecs"])
def test_a_pool_has_the_template_of_its_kind(deployed: PrefectServer, name: str) -> None:
    pool = deployed.request(f"/work_pools/{name}")
    ours = json.loads((ROOT / "deployments" / "pools" / f"{pool['type']}.json").read_text())
    assert pool["base_job_template"] == ours
    templates = json.loads((Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json").read_text())
    default = next(kinds[pool["type"]] for kinds in templates.values() if pool["type"] in kinds)["default_base_job_configuration"]
    left_out = set(default["variables"]["properties"]) - set(ours["variables"]["properties"])
    assert left_out <= NOT_IN_NEWER_WORKERS
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(ours["job_configuration"])))
    assert used <= set(ours["variables"]["properties"])


def test_pools_of_containers_have_gpus_shared_memory_and_time_to_end() -> None:
    docker, kubernetes, ecs = (
        json.loads((ROOT / f"deployments/pools/{kind}.json").read_text()) for kind in ("docker", "kubernetes", "ecs")
    )
    create = docker["variables"]["properties"]["container_create_kwargs"]["default"]
    host = HostConfig(version="1.44", shm_size=create["shm_size"], device_requests=create["device_requests"])
    assert host["ShmSize"] == 2**30
    assert host["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
    pod = kubernetes["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert pod["containers"][0]["volumeMounts"][0]["mountPath"] == "/dev/shm"
    assert pod["terminationGracePeriodSeconds"] == "{{ grace_seconds }}"
    (container,) = ecs["job_configuration"]["task_definition"]["containerDefinitions"]
    assert container["resourceRequirements"] == [{"type": "GPU", "value": "{{ gpus }}"}]
    assert container["linuxParameters"]["sharedMemorySize"] == "{{ shared_memory }}"
    grace = {kubernetes["variables"]["properties"]["grace_seconds"]["default"], ecs["variables"]["properties"]["stop_timeout"]["default"]}
    assert grace == {60}


def test_a_crashed_run_is_scheduled_again_with_its_own_parameters(deployed: PrefectServer, job: dict[str, Any]) -> None:
    run = deployed.create_run("embed-corpus/backfill", {"job": job})
    assert deployed.set_state(run, type="CRASHED", name="Crashed", force=True) == "ACCEPT"
    again = {"name": "", "state_type": "CRASHED"}
    deadline = time.monotonic() + 60
    while again["state_type"] == "CRASHED":
        assert time.monotonic() < deadline
        time.sleep(0.2)
        again = deployed.request(f"/flow_runs/{run}")
    assert (again["state_type"], again["state"]["name"]) == ("SCHEDULED", "AwaitingRetry")
    assert again["parameters"]["job"] == job  # type: ignore[comparison-overlap]
    deployed.set_state(run, type="CANCELLED", name="Cancelled", force=True)


def test_who_is_to_know_of_too_many_rows_in_quarantine_is_told(
    deployed: PrefectServer, notified: Notified, job: dict[str, Any], tmp_path: Path
) -> None:
    table = pa.table({"id": [f"row-{i}" for i in range(10)], "text": ["a text", "another", "a third", *[""] * 7]})
    pq.write_table(table, tmp_path / "rows.parquet")
    run = deployed.run_deployment("embed-corpus/backfill", {"job": {**job, "corpus": "half-empty"}})
    deployed.work_once(POOL)
    assert deployed.wait(run) == "FAILED", deployed.logs(run)
    told = told_of(notified, "Kitestring: rows of half-empty are quarantined")
    assert "7 of 10 rows were quarantined" in told["body"]


def test_a_job_that_is_a_variable_is_run_from_a_form_of_two_fields(deployed: PrefectServer, job: dict[str, Any], tmp_path: Path) -> None:
    fields = deployed.deployment("embed-file/backfill-file")["parameter_openapi_schema"]["properties"]
    assert (list(fields), fields["job_file"]["title"]) == (["job_file", "overrides"], "Job file")
    deployed.request("/variables/", {"name": "a_job", "value": job})
    run = deployed.run_deployment("embed-file/backfill-file", {"job_file": "variable:a_job", "overrides": {"shards.rows": 20}})
    deployed.work_once(POOL)
    assert deployed.wait(run) == "COMPLETED", deployed.logs(run)
    assert rows_found(tmp_path / "rows.db", "deployed") == ROWS


def test_who_is_to_know_of_a_run_that_failed_is_told_why(deployed: PrefectServer, notified: Notified) -> None:
    run = deployed.run_deployment("embed-file/backfill-file", {"job_file": "no-such-job.yaml"})
    deployed.work_once(POOL)
    assert deployed.wait(run) == "FAILED", deployed.logs(run)
    name = deployed.request(f"/flow_runs/{run}")["name"]
    assert name.startswith("no-such-job.yaml 20")
    told = told_of(notified, f"Kitestring: {name} failed")
    why, what_next = told["body"].splitlines()[:2]
    assert why.startswith("BadInput: there is no job file 'no-such-job.yaml' in ")
    assert what_next.startswith("Deployment backfill-file. Run it again: finished work is kept.")


def test_who_is_to_know_of_a_run_that_crashed_is_told(deployed: PrefectServer, notified: Notified, job: dict[str, Any]) -> None:
    run = deployed.create_run("embed-corpus/backfill", {"job": job})
    deployed.set_state(run, type="CRASHED", name="Crashed", message="No sign of life for ten minutes.", force=True)
    told = told_of(notified, f"Kitestring: {deployed.request(f'/flow_runs/{run}')['name']} crashed")
    assert told["body"].startswith("No sign of life for ten minutes.")
    deployed.set_state(run, type="CANCELLED", name="Cancelled", force=True)


def test_who_is_to_know_of_a_run_that_fell_silent_is_told(deployed: PrefectServer, notified: Notified, job: dict[str, Any]) -> None:
    """The run and its worker are killed, as with their machine, so that nobody is left to say so. Ten minutes are twelve seconds here."""
    document = yaml.safe_load((ROOT / "deployments" / "automations" / "silent-run.yaml").read_text())
    document["trigger"]["within"] = 12
    wanted = AutomationCore.model_validate(document | {"name": "silent soon"}).model_dump(mode="json")
    automation = deployed.request("/automations/", wanted)["id"]
    deployed.request("/v2/concurrency_limits/", {"name": "taken", "limit": 1, "active_slots": 1})  # the run waits, and needs no ranks
    run = deployed.create_run("embed-corpus/backfill", {"job": job | {"compute": {"limit": "taken", "processes": 1}}})
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
    worker = subprocess.Popen(command, cwd=ROOT, env=deployed.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: heartbeats(deployed, run))
        assert deployed.state(run) == "RUNNING"
    finally:
        lost = [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]
        for process in lost:
            process.kill()
        worker.wait(20)
    assert len(lost) > 1
    name = deployed.request(f"/flow_runs/{run}")["name"]
    told = told_of(notified, f"Kitestring: {name} crashed", seconds=240)  # 75 s were seen on a machine with ten processes for two cores
    assert told["body"].startswith("The run sent no heartbeat for ten minutes.")
    deployed.set_state(run, type="CANCELLED", name="Cancelled", force=True)
    deployed.delete(f"/automations/{automation}")


def heartbeats(server: PrefectServer, run: str) -> int:
    of_run = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}, "any_resource": {"id": [f"prefect.flow-run.{run}"]}}}
    return int(server.request("/events/filter", of_run)["total"])


def until(found: Callable[[], Any], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_night_that_is_still_running_is_not_overtaken(deployed: PrefectServer) -> None:
    nightly = deployed.deployment("embed-corpus/nightly")
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert [s["schedule"]["cron"] for s in nightly["schedules"]] == ["0 2 * * *"]


def test_the_nights_and_the_audits_are_scheduled(deployed: PrefectServer) -> None:
    """Not the cron text alone: the server's scheduler may fail on every beat, and say so nowhere but in its log."""
    for name, weekday in (("embed-corpus/nightly", None), ("audit-collection/audit", 6)):
        first = upcoming(deployed, name)[0]
        due = dt.datetime.fromisoformat(first["expected_start_time"])
        assert first["created_by"]["type"] == "SCHEDULE"
        assert (due.hour, due.minute) == ((2, 0) if weekday is None else (6, 0))
        assert weekday in (None, due.weekday())
        assert due > dt.datetime.now(dt.UTC)


def upcoming(server: PrefectServer, name: str, seconds: float = SCHEDULED_SECONDS) -> list[dict[str, Any]]:
    """The runs of a deployment that the scheduler has planned, the next first, once there are any."""
    asked = {
        "deployments": {"id": {"any_": [server.deployment(name)["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC",
    }
    deadline = time.monotonic() + seconds
    while not (runs := server.request("/flow_runs/filter", asked)):
        assert time.monotonic() < deadline, f"no run of {name} was scheduled within {seconds} s"
        time.sleep(0.2)
    return list(runs)


def test_a_scheduled_run_starts_by_itself_and_is_proved(deployed: PrefectServer, job: dict[str, Any], tmp_path: Path) -> None:
    """`backfill` with a schedule that is due every minute; nobody asks for the run."""
    document = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
    backfill = next(deployment for deployment in document["deployments"] if deployment["name"] == "backfill")
    backfill |= {"name": "by-itself", "schedules": [{"interval": DUE_EVERY_SECONDS, "timezone": "UTC", "active": True}]}
    backfill |= {"work_pool": backfill["work_pool"] | {"name": "by-itself"}, "parameters": {"job": job, "overrides": {}}}
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(document | {"deployments": [backfill]}))
    deployed.create_process_pool("by-itself")
    deployed.deploy(file)
    try:
        run = upcoming(deployed, "embed-corpus/by-itself")[0]["id"]
        deadline = time.monotonic() + 120
        while deployed.state(run) == "SCHEDULED":
            assert time.monotonic() < deadline
            deployed.work_once("by-itself")
        assert deployed.wait(run) == "COMPLETED", deployed.logs(run)
    finally:
        deployed.prefect("deployment", "delete", "embed-corpus/by-itself")
    shown = deployed.request(f"/flow_runs/{run}")
    assert (shown["auto_scheduled"], shown["run_count"]) == (True, 1)
    assert rows_found(tmp_path / "rows.db", "deployed") == ROWS


def test_a_worker_runs_the_flow_where_it_was_started(deployed: PrefectServer) -> None:
    """Neither in the folder of whoever deployed, nor in a copy of the checkout."""
    for name in ("embed-corpus/backfill", "audit-collection/audit"):
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}, {"kitestring_entry.check_packages": {}}]
        deployment = deployed.deployment(name)
        assert deployment["pull_steps"] == steps
        assert deployment["job_variables"]["working_dir"] == "."


def test_every_deployment_holds_a_whole_job_on_a_corpus_that_is_there() -> None:
    for deployment in yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]:
        parameters = deployment["parameters"]
        job = Job.model_validate(parameters["job"]) if "job" in parameters else read_job(ROOT / parameters["job_file"], None)
        assert (ROOT / job.source.uri).exists()
