"""A run tells in its checkpoint how far it is, and how it ended."""

from __future__ import annotations

import datetime as dt
import logging
import secrets
import threading
import time
from collections.abc import Callable

import pytest

from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.object_store.registry import open_store
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.ports import Store
from tasks.domain.progress.live_run import LiveRun
from tasks.run.observers import live_progress
from tasks.run.observers.live_progress import publishing_progress
from tasks.run.progress import Journal
from tests.builders.checkpoints import live_run, snapshot

BEGAN = dt.datetime(2026, 11, 21, 8, tzinfo=dt.UTC)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(live_progress, "PUBLISH_SECONDS", 0.01)
    return open_store(f"memory://{secrets.token_hex(8)}")


def told(store: Store) -> LiveRun | None:
    return LiveRuns(store, "pydocs").read("run-1")


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_can_be_followed_while_it_goes_and_says_in_the_end_that_it_is_complete(store: Store) -> None:
    journal = Journal()
    with publishing_progress(store, "pydocs", "run-1", BEGAN, journal):
        [listener] = journal.listeners
        listener(snapshot(encoded=7, total=10))
        until(lambda: (now := told(store)) and now.snapshot.encoded == 7)
        listener(snapshot(encoded=9, total=10))
        until(lambda: (now := told(store)) and now.snapshot.encoded == 9)
        now = told(store)
        assert now is not None
        assert (now.state, now.began, now.snapshot.of_rows) == ("running", BEGAN, "9 of 10")
    last = told(store)
    assert last is not None
    assert (last.state, last.snapshot.ended) == ("completed", True)


@pytest.mark.parametrize(
    ("error", "state", "cause"),
    [
        (Permanent("s3://me:secret@bucket is gone"), "failed", "s3://bucket is gone"),
        (KeyboardInterrupt(), "stopped", ""),
    ],
)
def test_it_says_how_it_ended_and_shows_no_credentials(store: Store, error: BaseException, state: str, cause: str) -> None:
    with pytest.raises(type(error)), publishing_progress(store, "pydocs", "run-1", BEGAN, Journal()):
        raise error
    last = told(store)
    assert last is not None
    assert (last.state, last.cause) == (state, cause)


def test_a_job_that_is_refused_leaves_nothing_behind_and_what_runs_before_it_told_as_it_was(store: Store) -> None:
    journal, before = Journal(), live_run("run-0", state="failed")
    LiveRuns(store, "pydocs").publish(before)

    def refuse() -> None:
        journal.listeners[0](snapshot())
        until(lambda: told(store))
        raise BadInput("no such column")

    with pytest.raises(BadInput), publishing_progress(store, "pydocs", "run-1", BEGAN, journal):
        refuse()
    assert list(LiveRuns(store, "pydocs").newest()) == [before]
    with publishing_progress(store, "pydocs", "run-2", BEGAN, Journal()):
        pass
    assert [run.run for run in LiveRuns(store, "pydocs").newest()] == ["run-2"]


def test_a_store_that_stands_still_or_fails_holds_no_run_up(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_progress, "END_SECONDS", 0.1)
    stands, asked = threading.Event(), threading.Event()

    def write(_key: str, _data: bytes) -> None:
        asked.set()
        stands.wait(30)
        raise Transient("it does not answer")

    monkeypatch.setattr(type(store), "write", lambda _store, key, data: write(key, data))
    journal = Journal()
    with caplog.at_level(logging.WARNING), publishing_progress(store, "pydocs", "run-1", BEGAN, journal):
        journal.listeners[0](snapshot())
        assert asked.wait(30)
    stands.set()
    until(lambda: caplog.records)
    assert "the progress of the run could not be written to the checkpoint" in caplog.text
