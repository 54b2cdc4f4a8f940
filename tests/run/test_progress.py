"""What watches a run, and what a run does where that fails."""

from __future__ import annotations

import logging
import threading

import pytest

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import Transient
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.shards.shard import FileVersion, Span, Whole
from tasks.run import progress
from tasks.run.progress import Journal


def test_a_watcher_that_fails_stops_neither_the_run_nor_the_other_watchers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)
    heard: list[Snapshot] = []
    several = threading.Event()

    def fails(_now: Snapshot) -> None:
        raise BrokenPipeError("nobody reads this")

    def hears(now: Snapshot) -> None:
        heard.append(now)
        if len(heard) > 3:
            several.set()

    with caplog.at_level(logging.WARNING), Journal(listeners=[fails, hears]).ticking():
        assert several.wait(10)
    assert heard[-1].ended
    assert len(caplog.records) == 1


def test_a_moment_that_cannot_be_told_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.01)
    watched, asked = Journal(), threading.Event()
    heard = threading.Event()
    watched.listeners.append(lambda _now: heard.set())

    def fails_once() -> EncodingProgress:
        if not asked.is_set():
            asked.set()
            raise RuntimeError("a mistake")
        return EncodingProgress()

    watched.encoding = fails_once
    with watched.ticking():
        assert heard.wait(10)


def test_a_stage_that_counts_something_else_shows_that_and_only_as_long_as_it_lasts() -> None:
    journal = Journal(stage="verify", loaded=3)
    with journal.counting("rows compared", 1_000) as add:
        threads = [threading.Thread(target=add, args=(100,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        now = journal.snapshot()
        assert now.counted is not None
        assert (now.bar, now.counted.what) == ((400, 1_000), "rows compared")
    assert journal.snapshot().counted is None


def test_a_plan_shows_what_is_listed_at_least_and_ends_with_its_run() -> None:
    file = FileVersion(path="/rows/0", name="0", size=1, version="1")
    journal, span = Journal(), Span(files=(file,), extent=Whole(), rows=500)
    with journal.ticking():
        journal.note_listed(span)
        journal.note_listed(span)
        assert journal.snapshot().of_rows == "0 of at least 1,000"
    with pytest.raises(Transient, match="the run is ending"):
        journal.note_listed(span)
    journal.note_planned(2)
    assert journal.snapshot().of_rows == "0"


def test_progress_never_goes_back_and_what_is_told_at_the_end_is_what_was_kept() -> None:
    journal, rows = Journal(total=1_000), iter([300, 250, 310, 290])
    journal.encoding = lambda: EncodingProgress(rows=next(rows), tokens=5)
    assert [journal.snapshot().done for _ in range(3)] == [300, 300, 310]
    assert journal.snapshot(ended=True).done == 290
