"""Attempts to import, whoever began them and whatever became of them; the target is in memory, whose jobs end at once."""

from __future__ import annotations

import contextlib
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
from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.processes.process_mark import started_since_boot, this_process
from tasks.adapters.targets.memory_bulk_loader import MemoryBulkLoader
from tasks.adapters.targets.memory_collection import memory_servers
from tasks.domain.errors import OutcomeUnknown, Permanent, RunFailed
from tasks.domain.shards.import_attempt import ImportAttempt, ProcessMark
from tasks.run import import_attempts
from tasks.run.import_attempts import SILENT_SECONDS, staged_at
from tasks.stages import bulk_import
from tasks.stages.bulk_import import import_shards
from tasks.stages.verify import verify_plan
from tests.builders.kitestring import make_job, workers_of, write_rows
from tests.flows.imports.attempts import ROWS, Killed, left_behind, opening


def test_an_import_that_a_living_run_waits_for_is_finished_by_whoever_is_first(in_memory, tmp_path, tiny_model, run_flow, monkeypatch):
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
    with opening(document, in_memory) as one, opening(document, in_memory) as two, ThreadPoolExecutor(1) as threads:
        first = threads.submit(one.load)
        assert polling.wait(240)
        assert two.load()
        assert len(left_behind(in_memory)) == 0
        go_on.set()
        assert first.result(240)
        for at in (one, two):
            assert (at.collection.count(), at.ledger, at.plan.checkpoint.attempts(at.plan.address)) == (20, 1, {})
            assert verify_plan(at.plan, at.collection, full=True).proved
    assert left_behind(in_memory) == []


@pytest.fixture
def somebody() -> Iterator[ProcessMark]:
    """A process that lives."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield this_process().model_copy(update={"pid": process.pid, "since_boot": started_since_boot(process.pid)})
        process.kill()


@pytest.mark.parametrize("where", ["here", "elsewhere", "older version"])
def test_an_attempt_is_left_alone_while_somebody_may_be_at_work_on_it_and_discarded_afterwards(sealed, in_memory, somebody, where):
    """Here its process is seen to end; elsewhere, and of an older version, it has to be silent for some minutes."""
    theirs = {"here": somebody, "elsewhere": somebody.model_copy(update={"host": "another"}), "older version": None}[where]
    attempt = ImportAttempt(run="theirs", collection=f"{in_memory['collection']}_import_theirs", rows=0, covers="", process=theirs)
    with opening(sealed, in_memory) as at:
        store, layout, address = at.plan.checkpoint.store, at.plan.checkpoint.layout, at.plan.address
        key = layout.attempt(address) if where == "older version" else layout.importing(address, "theirs")
        write_document(store, key, attempt)
        at.collection.target.collection(attempt.collection).ensure(at.plan.spec)
        memory_servers[in_memory["uri"]].staged[f"{staged_at(address, attempt)}/000000"] = pa.table({})
        assert at.load()
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert list(at.plan.checkpoint.attempts(address)) == ["theirs"]
        assert len(left_behind(in_memory)) == 2
        if where == "here":
            process = psutil.Process(somebody.pid)
            process.kill()
            process.wait(10)  # it dies a moment later
        else:
            os.utime(Path(store.url) / key, times=(time.time() - SILENT_SECONDS,) * 2)
        assert at.load()
        assert at.plan.checkpoint.attempts(address) == {}
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
    assert left_behind(in_memory) == []


def test_an_attempt_that_an_older_version_left_is_gone_on_with(sealed, in_memory, monkeypatch):
    """It is in the ledger's folder, and nothing says who was at work on it."""

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(sealed, in_memory) as at, monkeypatch.context() as patch:
        patch.setattr(bulk_import, "_await", dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
        store, layout = at.plan.checkpoint.store, at.plan.checkpoint.layout
        ((attempt, _),) = at.plan.checkpoint.attempts(at.plan.address).values()
        store.delete(layout.importing(at.plan.address, attempt.run))
        write_document(store, layout.attempt(at.plan.address), attempt.model_copy(update={"process": None}))
        os.utime(Path(store.url) / layout.attempt(at.plan.address), times=(time.time() - SILENT_SECONDS,) * 2)
        assert at.ledger == 0
    with opening(sealed, in_memory) as at:
        assert at.load()
        assert {entry.run for entry in at.plan.checkpoint.loads(at.plan.target)} == {attempt.run}
        assert (at.collection.count(), at.plan.checkpoint.attempts(at.plan.address)) == (ROWS, {})
    assert left_behind(in_memory) == []


def test_a_run_says_that_it_lives_for_as_long_as_it_waits(sealed, in_memory, monkeypatch):
    monkeypatch.setattr(import_attempts, "ATTEMPT_BEAT_SECONDS", 0.05)
    with opening(sealed, in_memory) as at:
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
    assert left_behind(in_memory) == []


@pytest.mark.parametrize("moment", ["check", "start", "_await", "_await_rows", "rename", "_enter"])
def test_whatever_moment_it_is_killed_at_the_next_run_has_every_row_once(sealed, in_memory, monkeypatch, moment):
    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(sealed, in_memory) as at, monkeypatch.context() as patch:
        patch.setattr(MemoryBulkLoader if hasattr(MemoryBulkLoader, moment) else bulk_import, moment, dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
    with opening(sealed, in_memory) as at:
        assert at.load()
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert verify_plan(at.plan, at.collection).proved
    assert left_behind(in_memory) == []


def test_a_start_with_an_unknown_outcome_is_dropped_for_upserts(sealed, in_memory, monkeypatch, caplog):
    def unsure(*_: object, **__: object) -> list[str]:
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(MemoryBulkLoader, "start", unsure)
    with opening(sealed, in_memory) as at:
        assert not at.load()  # upserting begins
        assert at.plan.checkpoint.attempts(at.plan.address) == {}
    assert "no answer; its rows are upserted instead" in caplog.text
    assert left_behind(in_memory) == []


def test_a_key_in_two_shards_is_not_imported(sealed, in_memory, tmp_path, tiny_model, run_flow, caplog):
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", 0, 10)
    document = make_job(tmp_path, tiny_model, shards__rows=10)
    with contextlib.suppress(RunFailed):
        run_flow(document)
    with opening(document, in_memory) as at:
        assert not at.load()
    assert "is also in another shard" in caplog.text


def test_no_rank_lives_while_the_server_imports(in_memory, tmp_path, tiny_model, run_flow, monkeypatch):
    """The ranks are real ones: their device is free for whoever waits for it."""
    monkeypatch.setattr(torchrun_encoders, "Coordinator", Coordinator)
    before = {process.pid for process in workers_of(os.getpid())}  # the session's servers have guards as well
    alive: list[set[int]] = []

    def polled(*_: object) -> None:
        alive.append({process.pid for process in workers_of(os.getpid())} - before)
        raise Permanent("far enough")

    monkeypatch.setattr(bulk_import, "_await", polled)
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    done = run_flow(make_job(tmp_path, tiny_model, compute__processes=1, target=in_memory))
    assert alive == [set()]
    assert (done["verified"], done["rows"]["embedded"]) == (True, 20)
