"""What watches a run, and what a run does where that fails."""

from __future__ import annotations

import logging
import threading

import pytest

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.report.snapshot import Snapshot
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
