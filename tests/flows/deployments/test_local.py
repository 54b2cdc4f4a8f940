"""`make up`: from nothing to runs that are started, watched, queued and tried again in the Prefect UI; and `make down`."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tasks.adapters.processes.process_guard import start_guarded
from tests.builders.kitestring import make_job, write_rows
from tests.servers.browser import chromium
from tests.servers.milvus import free_ports
from tests.servers.prefect import ROOT, PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
SECONDS = 240
SCREENSHOTS = ROOT / "deployments" / "screenshots"
LOCAL = [sys.executable, "infra/local.py"]


class House:
    """A server with everything and a worker, in a folder of its own, behind a guard: nothing of it outlives the test."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self.folder = folder
        self.env = {**os.environ, "KITESTRING_STATE": str(folder), "KITESTRING_PORT": str(port), "PYTHONPATH": str(ROOT)}
        self.server = PrefectServer(api=f"http://127.0.0.1:{port}/api", home=folder / "prefect")
        self.page = f"http://127.0.0.1:{port}"
        script = f"import subprocess, sys, time; print(subprocess.call({[*LOCAL, 'up']!r}), flush=True); time.sleep(3600)"
        with (folder / "up.log").open("wb") as log:
            self._guard = start_guarded([sys.executable, "-c", script], env=self.env, stdout=subprocess.PIPE, stderr=log.fileno())
        assert self._guard.stdout is not None
        self.said = list(iter(lambda: self._guard.stdout.readline().decode().rstrip(), "0"))  # type: ignore[union-attr]

    def local(self, command: str) -> str:
        done = subprocess.run([*LOCAL, command], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(json.loads(file.read_text())["pid"]) for file in sorted(self.folder.glob("*.pid"))]

    def worker(self) -> psutil.Process:
        return self.processes()[1]

    def close(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(20)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    try:
        yield house
        everything = [child for p in house.processes() for child in [p, *p.children(recursive=True)]]
        assert house.local("down").split() == ["worker", "stopped", "server", "stopped"]
        assert not [p for p in everything if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert house.local("down") == ""
    finally:
        house.close()


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 60)
    return make_job(tmp_path, tiny_model, compute__processes=1, compute__limit="kitestring-encoder")


def until(found: Callable[[], Any], seconds: float = SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return there


def reports(checkpoint: Path) -> list[dict[str, Any]]:
    """Of finished runs, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted(checkpoint.glob("*/*/runs/*/report.json"))]


def test_two_backfills_finish_one_after_the_other_and_say_what_they_wait_for(house: House, job: dict[str, Any]) -> None:
    runs = [house.server.create_run("embed-corpus/backfill", {"job": job}) for _ in range(2)]
    assert [house.server.wait(run, SECONDS) for run in runs] == ["COMPLETED", "COMPLETED"], [house.server.logs(run) for run in runs]
    waited = "waiting for a slot of the Prefect concurrency limit 'kitestring-encoder', which other runs hold"
    assert [waited in house.server.logs(run) for run in runs].count(True) == 1
    first, second = reports(Path(job["checkpoint"]))
    assert first["finished"] <= second["started"]
    assert (first["rows"]["embedded"], second["rows"]["reused"]) == (60, 60)


def test_a_failed_run_says_what_to_do_and_retry_goes_on_from_its_seals(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    """Retry as the button of the UI does it: the same run, scheduled again."""
    bad = tmp_path / "rows" / "b.parquet"
    write_rows(bad, 100, 110)
    rows = pq.read_table(bad)
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), bad)  # a key that comes twice is refused
    run = house.server.create_run("embed-corpus/backfill", {"job": job})
    assert house.server.wait(run, SECONDS) == "FAILED"
    (shown,) = house.server.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["report-rows"]}}})
    assert "| shard | b.parquet" in shown["data"]
    assert "| what to do | Correct what the message names" in shown["data"]

    write_rows(bad, 100, 110)
    assert house.server.set_state(run, type="SCHEDULED", name="AwaitingRetry") == "ACCEPT"
    until(lambda: house.server.request(f"/flow_runs/{run}")["run_count"] == 2)
    assert house.server.wait(run, SECONDS) == "COMPLETED", house.server.logs(run)
    last = reports(Path(job["checkpoint"]))[-1]["rows"]
    assert (last["embedded"], last["reused"], last["loaded"]) == (10, 60, 70)


def test_suspend_ends_every_process_and_resume_goes_on(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    """As the buttons of the UI do it. Cancelling does the same for good: `make chaos` does it at random moments."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 12_000, row_group=6_000)
    job["compute"]["unsaved_rows"] = 200
    run = house.server.create_run("embed-corpus/backfill", {"job": job})
    until(lambda: len(list(Path(job["checkpoint"]).rglob("part-*"))) > 3)
    ranks = [p for p in house.worker().children(recursive=True) if p.name().startswith("ks-rank-")]
    assert ranks
    house.server.set_state(
        run, type="PAUSED", name="Suspended", state_details={"pause_reschedule": True, "pause_timeout": "2100-01-01T00:00:00Z"}
    )
    assert not psutil.wait_procs(ranks, timeout=30)[1]
    until(lambda: not [p for p in house.worker().children(recursive=True) if "tasks.adapters.processes.process_guard" in p.cmdline()], 30)
    kept = len(list(Path(job["checkpoint"]).rglob("part-*")))
    house.server.request(f"/flow_runs/{run}/resume", {})
    assert house.server.wait(run, SECONDS) == "COMPLETED", house.server.logs(run)
    (report,) = reports(Path(job["checkpoint"]))
    assert report["rows"]["loaded"] == 12_000
    assert report["rows"]["reused"] >= 100 * (kept - 1)


def test_a_cancelled_run_says_what_it_has_saved_and_that_it_can_go_on(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 12_000, row_group=6_000)
    job["compute"]["unsaved_rows"] = 200
    run = house.server.create_run("embed-corpus/backfill", {"job": job})
    until(lambda: len(list(Path(job["checkpoint"]).rglob("part-*"))) > 3)
    house.server.set_state(run, type="CANCELLING", name="Cancelling")
    assert house.server.wait(run, SECONDS) == "CANCELLED", house.server.logs(run)
    (shown,) = house.server.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["report-rows"]}}})
    assert shown["data"].startswith("# The run was stopped")
    assert re.search(r"[\d,]+ rows were encoded and 0 loaded; 0 of \d+ shards were sealed\. .* run the job again", shown["data"])
    (told,) = (Path(job["checkpoint"]) / "rows" / "live").glob("*.json")
    assert json.loads(told.read_text())["state"] == "stopped"


def test_from_the_form_to_the_report_in_a_browser(house: House, job: dict[str, Any]) -> None:
    """What a person does with the 24 kites: the list of deployments, the form, the run under way, its artifacts, the report."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.set_default_timeout(60_000)
        page.goto(f"{house.page}/deployments")
        for name in ("backfill", "nightly", "replay", "audit", "repair", "retry-quarantine"):
            page.get_by_text(name, exact=True).first.wait_for()
        shot(page, "deployments")
        backfill = house.server.deployment("embed-corpus/backfill")["id"]
        page.goto(f"{house.page}/deployments/deployment/{backfill}/run")
        page.get_by_role("button", name="Table files").wait_for()
        fits(page)
        shot(page, "form")
        marks_what_is_wrong(page)
        fill(page, "Corpus", "seen")
        fill(page, "Model", job["encoder"]["model"])
        fill(page, "Checkpoint", job["checkpoint"])
        fill(page, "Milvus", job["target"]["uri"])
        fill(page, "Collection", "seen")
        page.locator(".p-label", has_text="Run Name").locator("input").first.fill("before the release")
        run = submit(page)
        until(lambda: house.server.request("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}}))
        page.goto(f"{house.page}/runs/flow-run/{run}")
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_text("progress-seen").first.wait_for()
        shot(page, "run")
        assert house.server.wait(run, SECONDS) == "COMPLETED", house.server.logs(run)
        assert house.server.request(f"/flow_runs/{run}")["name"] == "before the release"
        wanted = {"artifacts": {"flow_run_id": {"any_": [run]}, "key": {"any_": ["report-seen"]}}}
        (report,) = house.server.request("/artifacts/filter", wanted)
        page.goto(f"{house.page}/artifacts/artifact/{report['id']}")
        page.get_by_text("24 of 24 rows are searchable; verified").first.wait_for()
        shot(page, "report")
        browser.close()


class Person:
    """Somebody at the server's first page, which is that of Prefect's newer UI, whose clicks and fields are counted."""

    def __init__(self, page: Page, first: str) -> None:
        self.page, self.clicks, self.fields = page, 0, 0
        page.goto(first)

    def click(self, role: Any, name: str) -> None:
        self.page.get_by_role(role, name=name, exact=True).first.click()
        self.clicks += 1

    def open_form(self, deployment: str) -> None:
        self.click("link", "Deployments")
        self.click("link", deployment)
        self.click("button", "Run")
        self.click("link", "Custom run")

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).first.fill(text)
        self.fields += 1

    def submit(self) -> str:
        run = submit(self.page)
        self.clicks += 1
        return run


def test_clicks_and_fields_to_a_first_own_run(house: House, job: dict[str, Any], tmp_path: Path) -> None:
    """From the server's first page to a run that is submitted, for a Parquet file into a file of Milvus Lite; the runs need not run."""
    rows, file = tmp_path / "rows" / "a.parquet", tmp_path / "job.json"
    file.write_text(json.dumps(job))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(60_000)
        by_file = Person(page, house.page)
        by_file.open_form("backfill-file")
        by_file.fill("Job file", str(file))
        runs = [by_file.submit()]
        by_form = Person(page, house.page)
        by_form.open_form("backfill")
        by_form.click("button", "Select Format")
        by_form.click("option", "parquet")
        for label, text in {"Corpus": "own", "Where": str(rows), "Collection": "own"}.items():
            by_form.fill(label, text)
        for label, text in {"Model": job["encoder"]["model"], "Checkpoint": job["checkpoint"], "Milvus": job["target"]["uri"]}.items():
            page.get_by_label(label, exact=True).fill(text)  # not counted: what stands there serves a person
        height = page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))")
        optional = page.get_by_text("(Optional)").count()
        runs.append(by_form.submit())
        browser.close()
    given = house.server.request(f"/flow_runs/{runs[1]}")["parameters"]["job"]
    assert (given["source"]["kind"], given["source"]["uri"], given["corpus"]) == ("parquet", str(rows), "own")
    for run in runs:
        house.server.set_state(run, type="CANCELLED", name="Cancelled", force=True)
    assert (by_file.clicks, by_file.fields) == (5, 1)
    assert (by_form.clicks, by_form.fields) == (7, 3)
    assert (height < 6_000, optional < 20) == (True, True)


def fits(page: Page) -> None:
    """Of what a person does not need, little is drawn: it was 92 fields in 12,520 pixels, 91 of them "(Optional)", and 20 of type "None"."""
    page.get_by_text("Dry run", exact=False).first.wait_for()
    page.wait_for_function("document.querySelectorAll('.schema-form-property__label').length > 40")
    fields = page.locator(".schema-form-property__label").all_inner_texts()
    height = page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))")
    assert len(fields) < 50
    assert len([field for field in fields if field.endswith("(Optional)")]) < 20
    assert height < 7_000
    assert not page.get_by_text('Property is type "None"').count()


def marks_what_is_wrong(page: Page) -> None:
    fill(page, "Corpus", "two words")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("a name of letters, digits, dots, dashes and underscores").first.wait_for()
    wrong = page.locator(".schema-form-property", has=page.get_by_text("was expected")).last
    assert wrong.locator(".schema-form-property__label").first.inner_text() == "Corpus"


def submit(page: Page) -> str:
    """Send the form; the run's id. A server whose database is busy with another writer says 503, and a person sends it again."""
    for _ in range(5):
        with page.expect_response("**/create_flow_run") as answered:
            page.get_by_role("button", name="Submit").click()
        if answered.value.status != 503:
            break
        page.wait_for_timeout(1_000)
    assert answered.value.ok, answered.value.text()
    return str(answered.value.json()["id"])


def fill(page: Page, label: str, text: str) -> None:
    """A field of the form, by its title."""
    page.locator(".schema-form-property", has=page.get_by_text(label, exact=True)).last.locator("textarea").first.fill(text)


def shot(page: Page, name: str) -> None:
    """A small picture for the README, where somebody asks for new ones: KITESTRING_SCREENSHOTS=1."""
    if "KITESTRING_SCREENSHOTS" in os.environ:
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path)
        Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(path, optimize=True)


def test_up_again_changes_nothing(house: House) -> None:
    assert any("up in" in line and house.page in line for line in house.said)
    assert [pool["name"] for pool in house.server.request("/work_pools/filter", {})] == ["kitestring"], "one that has a worker"
    before = house.processes()
    assert len(before) == 2
    assert f"{house.page}/deployments" in house.local("up")
    assert house.processes() == before


SCHEDULER_FAILS = """04:07:59.080 | ERROR   | docket.dependencies - \u21a9 [    43ms] schedule_recent_deployments(){schedule_recent_deployments}
Traceback (most recent call last):
  File "docket/worker.py", line 1134, in _execute
    result = await execution.function(
sqlalchemy.exc.InvalidRequestError: Can't evaluate bulk DML statement; please supply a bulk_dml decorated function
"""


LOCKED = """06:28:46.611 | ERROR   | prefect.server.utilities.messaging.memory - Failed in consume_loop
Traceback (most recent call last):
sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked
(Background on this error at: https://sqlalche.me/e/20/e3q8)
"""


def test_up_refuses_a_server_that_logs_errors(house: House) -> None:
    """As its scheduler did on every beat, while everything that `up` asked it was answered well."""
    up = subprocess.Popen([*LOCAL, "up"], cwd=ROOT, env=house.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = house.folder / "server.log"
    while up.poll() is None:
        with log.open("a") as file:
            file.write(SCHEDULER_FAILS)
        time.sleep(0.5)
    said, refused = up.communicate(timeout=10)
    assert (up.returncode, "up in" in said) == (1, False)
    assert str(log) in refused
    assert "ERROR   | docket.dependencies" in refused
    assert "Can't evaluate bulk DML statement" in refused


@pytest.mark.parametrize(
    ("log", "errors"),
    [
        (SCHEDULER_FAILS, ["Can't evaluate bulk DML statement; please supply a bulk_dml decorated function"]),
        (SCHEDULER_FAILS * 2 + "\n", ["decorated function"] * 2),
        ("ERROR:    [Errno 98] error while attempting to bind on address\n", ["address"]),
        ("04:07:59.080 | CRITICAL | prefect.worker.process - out of memory\n", ["out of memory"]),
        ("Worker 'kitestring' started!\n04:07:59.080 | WARNING | prefect - Traceback\n", []),
        ("04:07:59.080 | ERROR   | Flow run 'red-kite' - Finished in state Failed('no such file')\nTraceback: no such file\n", []),
        ("04:07:59.080 | ERROR   | Task run 'load-1' - Task run failed\n04:07:59.081 | INFO    | prefect - ERROR: of a run\n", []),
        (LOCKED, []),
        (LOCKED + SCHEDULER_FAILS, ["decorated function"]),
        ("", []),
    ],
)
def test_an_error_of_a_run_is_none_of_the_server_or_the_worker(log: str, errors: list[str]) -> None:
    found = runpy.run_path(str(ROOT / "infra" / "local.py"))["errors_of"](log)
    assert len(found) == len(errors)
    assert all(line.endswith(error) for line, error in zip(found, errors, strict=True))
