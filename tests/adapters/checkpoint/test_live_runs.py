"""What runs tell of themselves in the checkpoint while they go."""

from __future__ import annotations

import datetime as dt

from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.domain.ports import Store
from tasks.domain.progress.live_run import UNHEARD_SECONDS
from tests.builders.checkpoints import NOW, live_run

SILENT = NOW - dt.timedelta(seconds=UNHEARD_SECONDS + 1)


def test_the_newest_runs_come_first_and_one_that_cannot_be_read_is_left_out(store: Store) -> None:
    runs = LiveRuns(store, "pydocs")
    assert list(runs.newest()) == []
    older, newer = live_run("20261120T000000-a"), live_run("20261121T000000-b", state="failed", cause="no more disk")
    for run in (newer, older):
        runs.publish(run)
    store.write("pydocs/live/20261122T000000-c.json", b"half a docu")
    LiveRuns(store, "other").publish(live_run("20261123T000000-d"))
    assert list(runs.newest()) == [newer, older]
    assert runs.read("20261122T000000-c") is None


def test_only_runs_that_are_under_way_are_left_beside_the_one_that_has_just_ended(store: Store) -> None:
    runs = LiveRuns(store, "pydocs")
    beside, gone = live_run("1"), live_run("2", at=SILENT)
    for run in (beside, gone, live_run("3", state="completed"), live_run("4", state="stopped")):
        runs.publish(run)
    store.write("pydocs/live/5.json", b"")
    runs.sweep(NOW, but="3")
    assert [run.run for run in runs.newest()] == ["3", beside.run]


def test_a_run_is_silent_only_where_it_says_that_it_is_running() -> None:
    assert live_run("1", at=SILENT).is_silent(NOW)
    assert not live_run("1").is_silent(NOW)
    assert not live_run("1", at=SILENT, state="failed").is_silent(NOW)
