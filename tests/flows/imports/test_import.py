"""Server-side import, against the real Milvus 2.3.5: it reads files from its machine's disk."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.milvus.milvus_bulk_loader import MilvusBulkLoader
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.processes.process_mark import started_since_boot, this_process
from tasks.domain.errors import BadInput, OutcomeUnknown, Permanent, RunFailed
from tasks.domain.shards.import_attempt import ImportAttempt, ProcessMark
from tasks.run import import_attempts
from tasks.run.import_attempts import SILENT_SECONDS, staged_at
from tasks.stages import bulk_import
from tasks.stages.bulk_import import import_shards, imports
from tasks.stages.verify import verify_plan
from tests.builders.inprocess import flows_in_process
from tests.builders.kitestring import make_job, workers_of, write_rows
from tests.builders.runs import until
from tests.builders.temporary_files import swept_files
from tests.flows.imports.attempts import Killed, Opened, left_behind, opening
from tests.servers.prefect import PrefectServer

ROWS = 90
ODD = {7: None, 10: math.nan}  # doubles that Milvus' importer refuses, by row of a shard; infinity is set aside before
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: PrefectServer) -> dict[str, Any]:
    """A job whose three shards are sealed, with what is hard to import among their metadata."""
    folder = tmp_path_factory.mktemp("sealed")
    for first in (0, 30, 60):
        odd = {
            "n": pa.array([None if row % 7 == 0 else row for row in range(30)], pa.int64()),
            "say": pa.array([None if row == 3 else 'quo"te\n日本\\' for row in range(30)], pa.string()),
            "text": pa.array(["a kite " * (10_000 if row == 4 else 1) + str(first + row) for row in range(30)], pa.string()),
            "tags": pa.array([["a", "b"], None, []] * 10, pa.list_(pa.string())),
            "x": pa.array([ODD.get(row, row / 4) for row in range(30)], pa.float64()),
            "xs": pa.array([None if row == 6 else [math.nan, 0.5] for row in range(30)], pa.list_(pa.float64())),
        }
        write_rows(folder / "rows" / f"{first}.parquet", first, first + 30, **odd)
    document = make_job(folder, tiny_model, shards__rows=30, source__metadata=["n", "say", "tags", "x", "xs"])
    with flows_in_process(prefect_server) as run:
        run(document)
    return document


def test_a_fresh_collection_is_imported_proved_and_nothing_is_left_behind(sealed, target):
    with opening(sealed, target) as at:
        with swept_files() as kinds:
            assert at.load()
        assert {"staging", "keys"} <= kinds
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert verify_plan(at.plan, at.collection).proved
        assert sum(entry.cut for entry in at.plan.checkpoint.loads(at.plan.target)) == 3  # one long text in each shard
        hit = at.collection.search(at.collection.fetch(["row-3"])[1], 1, fields=["n", "say", "tags"])[0][0]
        assert (hit.id, hit.fields["n"], hit.fields["tags"]) == ("row-3", 3, ["a", "b"])
        assert not imports(at.plan, at.collection)  # it is not fresh any more
    assert left_behind(target) == []


def test_doubles_that_the_server_refuses_are_upserted_into_the_imported_collection(sealed, target):
    """Null, for which NaN stands; the other rows are imported."""
    with opening(sealed, target) as at:
        assert at.load()
        assert at.collection.count() == ROWS
        assert verify_plan(at.plan, at.collection, full=True).proved
        keys = [f"row-{first + row}" for first in (0, 30, 60) for row in (*ODD, 11)]
        found = {hit.id: hit.fields["x"] for key in keys for hit in at.collection.search(at.collection.fetch([key])[1], 1, fields=["x"])[0]}
    assert found == {f"row-{first + row}": x for first in (0, 30, 60) for row, x in ({**ODD, 10: None, 11: 11 / 4}).items()}
    assert left_behind(target) == []


def test_two_imports_at_once_end_with_one_collection(sealed, target, monkeypatch):
    """Both have filled a collection of their own when the first takes the name."""
    both, rename = threading.Barrier(2, timeout=240), MilvusBulkLoader.rename

    def rename_at_once(self: MilvusBulkLoader, collection: str, to: str) -> None:
        both.wait()
        rename(self, collection, to)

    monkeypatch.setattr(MilvusBulkLoader, "rename", rename_at_once)
    with opening(sealed, target) as one, opening(sealed, target) as two, ThreadPoolExecutor(2) as threads:
        assert list(threads.map(Opened.load, (one, two))) == [True, True]
        for at in (one, two):
            assert (at.collection.count(), at.ledger, at.plan.checkpoint.attempts(at.plan.address)) == (ROWS, 3, {})
            assert verify_plan(at.plan, at.collection, full=True).proved
        runs = {entry.run for entry in one.plan.checkpoint.loads(one.plan.target)}
    assert len(runs) == 1  # the other has waited for its ledger, and upserted nothing
    assert left_behind(target) == []


def test_an_import_that_a_living_run_waits_for_is_finished_by_whoever_is_first(target, tmp_path, tiny_model, run_flow, monkeypatch):
    """The first run is held while it polls; the second takes its jobs over, and the first finds the collection there."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    document = make_job(tmp_path, tiny_model)
    run_flow(document)
    polling, go_on, wait = threading.Event(), threading.Event(), bulk_import._await

    def held(*given: Any) -> None:
        if not polling.is_set():
            polling.set()
            assert go_on.wait(240)
        wait(*given)

    monkeypatch.setattr(bulk_import, "_await", held)
    with opening(document, target) as one, opening(document, target) as two, ThreadPoolExecutor(1) as threads:
        first = threads.submit(one.load)
        assert polling.wait(240)
        assert two.load()
        assert len(left_behind(target)) == 0
        go_on.set()
        assert first.result(240)
        for at in (one, two):
            assert (at.collection.count(), at.ledger, at.plan.checkpoint.attempts(at.plan.address)) == (20, 1, {})
            assert verify_plan(at.plan, at.collection, full=True).proved
    assert left_behind(target) == []


def test_two_runs_that_import_at_once_are_both_proved_and_leave_nothing(kitestring, sealed, target):
    """As two people start them, and whatever they meet."""
    job = kitestring.job({**sealed, "target": target})
    runs = [kitestring.start("replay", job, "--json") for _ in range(2)]
    said = [run.communicate(timeout=280) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    for out, _ in said:
        assert (json.loads(out)["verified"], json.loads(out)["rows"]["loaded"]) == (True, ROWS)
    assert left_behind(target) == []
    assert not list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))


def test_a_killed_import_is_ended_by_the_next_run_at_once(kitestring, sealed, target):
    """kill -9: its machine knows that nobody is at work on it any more."""
    job = kitestring.job({**sealed, "target": target})
    run = kitestring.start("replay", job)
    until(lambda: list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json")), run)
    run.kill()
    run.communicate()
    assert left_behind(target) or list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))
    again = kitestring("replay", job, "--json")
    assert again.code == 0, again.err
    assert (again.json["verified"], again.json["rows"]["loaded"]) == (True, ROWS)
    assert left_behind(target) == []
    assert not list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))


@pytest.fixture
def somebody() -> Iterator[ProcessMark]:
    """A process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield this_process().model_copy(update={"pid": process.pid, "since_boot": started_since_boot(process.pid)})
        process.kill()


@pytest.mark.parametrize("where", ["here", "elsewhere", "older version"])
def test_an_attempt_is_left_alone_while_somebody_may_be_at_work_on_it_and_discarded_afterwards(sealed, target, somebody, where):
    """Here its process is seen to end; elsewhere, and of an older version, it has to be silent for some minutes."""
    theirs = {"here": somebody, "elsewhere": somebody.model_copy(update={"host": "another"}), "older version": None}[where]
    attempt = ImportAttempt(run="theirs", collection=f"{target['collection']}_import_theirs", rows=0, covers="", process=theirs)
    with opening(sealed, target) as at:
        store, layout, address = at.plan.checkpoint.store, at.plan.checkpoint.layout, at.plan.address
        key = layout.attempt(address) if where == "older version" else layout.importing(address, "theirs")
        write_document(store, key, attempt)
        filled, staged = at.collection.target.collection(attempt.collection), open_store(target["staging"])
        filled.ensure(at.plan.spec)
        staged.write(f"{staged_at(address, attempt)}/000000.parquet", b"rows")
        assert at.load()
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert list(at.plan.checkpoint.attempts(address)) == ["theirs"]
        assert len(left_behind(target)) == 2
        if where == "here":
            process = psutil.Process(somebody.pid)
            process.kill()
            process.wait(10)  # it dies a moment later
        else:
            os.utime(Path(store.url) / key, times=(time.time() - SILENT_SECONDS,) * 2)
        assert at.load()
        assert at.plan.checkpoint.attempts(address) == {}
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
    assert left_behind(target) == []


def test_an_attempt_that_an_older_version_left_is_gone_on_with(sealed, target, monkeypatch):
    """It is in the ledger's folder, and nothing says who was at work on it."""

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(sealed, target) as at, monkeypatch.context() as patch:
        patch.setattr(bulk_import, "_await", dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
        store, layout = at.plan.checkpoint.store, at.plan.checkpoint.layout
        ((attempt, _),) = at.plan.checkpoint.attempts(at.plan.address).values()
        store.delete(layout.importing(at.plan.address, attempt.run))
        write_document(store, layout.attempt(at.plan.address), attempt.model_copy(update={"process": None}))
        os.utime(Path(store.url) / layout.attempt(at.plan.address), times=(time.time() - SILENT_SECONDS,) * 2)
        assert at.ledger == 0
    with opening(sealed, target) as at:
        assert at.load()
        assert {entry.run for entry in at.plan.checkpoint.loads(at.plan.target)} == {attempt.run}
        assert (at.collection.count(), at.plan.checkpoint.attempts(at.plan.address)) == (ROWS, {})
    assert left_behind(target) == []


def test_a_run_says_that_it_lives_for_as_long_as_it_waits(sealed, target, monkeypatch):
    monkeypatch.setattr(import_attempts, "ATTEMPT_BEAT_SECONDS", 0.05)
    with opening(sealed, target) as at:
        key = at.plan.checkpoint.layout.importing(at.plan.address, at.run.id)
        seen, wait = list[float](), bulk_import._await

        def waits(*given: Any) -> None:
            path = Path(at.plan.checkpoint.store.url) / key
            deadline = time.monotonic() + 60
            while len(set(seen)) < 3:
                assert time.monotonic() < deadline
                seen.append(path.stat().st_mtime)
                time.sleep(0.01)
            wait(*given)

        monkeypatch.setattr(bulk_import, "_await", waits)
        assert at.load()
        assert at.plan.checkpoint.attempts(at.plan.address) == {}
    assert left_behind(target) == []


def test_where_every_row_has_such_a_double_nothing_is_imported(target, tmp_path, tiny_model, run_flow):
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20, x=pa.nulls(20, pa.float64()))
    done = run_flow(make_job(tmp_path, tiny_model, source__metadata=["x"], target=target))
    assert (done["verified"], done["rows"]["loaded"]) == (True, 20)
    assert left_behind(target) == []


@pytest.mark.parametrize("moment", ["check", "start", "_await", "_await_rows", "rename", "_enter"])
def test_whatever_moment_it_is_killed_at_the_next_run_has_every_row_once(sealed, target, monkeypatch, moment):
    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(sealed, target) as at, monkeypatch.context() as patch:
        patch.setattr(MilvusBulkLoader if hasattr(MilvusBulkLoader, moment) else bulk_import, moment, dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
    with opening(sealed, target) as at:
        assert at.load()
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert verify_plan(at.plan, at.collection).proved
    assert left_behind(target) == []


def test_a_start_with_an_unknown_outcome_is_dropped_for_upserts(sealed, target, monkeypatch, caplog):
    def unsure(*_: object, **__: object) -> list[str]:
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(MilvusBulkLoader, "start", unsure)
    with opening(sealed, target) as at:
        assert not at.load()  # upserting begins
        assert at.plan.checkpoint.attempts(at.plan.address) == {}
    assert "no answer; its rows are upserted instead" in caplog.text
    assert left_behind(target) == []


def test_an_import_that_is_given_up_does_not_hold_up_the_next(sealed, target, monkeypatch):
    """Its job still runs then, and 2.3.5 takes no other while it keeps one of a collection that is gone."""

    def gives_up(*_: object) -> None:
        raise Permanent("enough")

    with opening(sealed, target) as at:
        with monkeypatch.context() as patch:
            patch.setattr(bulk_import, "_await", gives_up)
            assert not at.load()
        begun = time.monotonic()
        assert at.load()
        assert time.monotonic() - begun < 300
    assert left_behind(target) == []


def test_a_file_that_the_server_cannot_read_is_dropped_for_upserts(sealed, target, monkeypatch, caplog):
    monkeypatch.setattr("tasks.adapters.milvus.staging.Staging._as_the_server_has_it", lambda _, key: f"/nowhere/{key}")
    with opening(sealed, target) as at:
        assert not at.load()
    assert "its rows are upserted instead" in caplog.text
    assert left_behind(target) == []


def test_a_key_in_two_shards_is_not_imported(sealed, target, tmp_path, tiny_model, run_flow, caplog):
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", 0, 10)
    document = make_job(tmp_path, tiny_model, shards__rows=10)
    with contextlib.suppress(RunFailed):
        run_flow(document)
    with opening(document, target) as at:
        assert not at.load()
    assert "is in another shard, too" in caplog.text


def test_no_rank_lives_while_the_server_imports(target, tmp_path, tiny_model, run_flow, monkeypatch):
    """The ranks are real ones: their device is free for whoever waits for it."""
    monkeypatch.setattr(torchrun_encoders, "Coordinator", Coordinator)
    before = {process.pid for process in workers_of(os.getpid())}  # the session's servers have guards as well
    alive: list[set[int]] = []

    def polled(*_: object) -> None:
        alive.append({process.pid for process in workers_of(os.getpid())} - before)
        raise Permanent("far enough")

    monkeypatch.setattr(bulk_import, "_await", polled)
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    done = run_flow(make_job(tmp_path, tiny_model, compute__processes=1, target=target))
    assert alive == [set()]
    assert (done["verified"], done["rows"]["embedded"]) == (True, 20)


@pytest.mark.parametrize(
    ("changed", "told"), [({"staging": ""}, "target.staging"), ({"uri": "here.db", "staging": "s"}, "Milvus Lite has no import")]
)
def test_what_cannot_be_imported_is_said(sealed, target, changed, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opening(sealed, {**target, **changed}) as at, pytest.raises(BadInput, match=told):
        imports(at.plan, at.collection)
