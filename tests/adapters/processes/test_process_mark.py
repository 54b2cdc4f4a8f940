"""Whether a process is still there, whatever somebody does to the machine's clock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tasks.adapters.processes.process_mark import has_ended, is_this_process, seconds_alive, started_since_boot, this_process
from tasks.domain.shards.import_attempt import ProcessMark

DAYS = 3 * 86_400.0


@pytest.fixture
def other() -> Iterator[ProcessMark]:
    """The mark of a process that lives until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield this_process().model_copy(update={"pid": process.pid, "since_boot": started_since_boot(process.pid)})
        process.kill()


def test_a_clock_that_is_set_ends_no_process(other: ProcessMark) -> None:
    for mark in (other, this_process()):
        jumped = mark.model_copy(update={"started": mark.started - DAYS})
        assert not has_ended(jumped)
        assert is_this_process(jumped) == (mark is not other)


def test_another_process_that_got_the_same_id_is_not_the_one(other: ProcessMark) -> None:
    assert other.since_boot is not None
    assert has_ended(other.model_copy(update={"since_boot": other.since_boot - 0.01}))
    assert not is_this_process(this_process().model_copy(update={"since_boot": 1.0}))


def test_a_mark_of_before_is_told_by_the_clock() -> None:
    mark = this_process().model_copy(update={"since_boot": None})
    assert not has_ended(mark)
    assert has_ended(mark.model_copy(update={"started": mark.started - 61}))


def test_a_process_of_another_machine_is_never_known_to_have_ended(other: ProcessMark) -> None:
    assert not has_ended(other.model_copy(update={"host": "elsewhere", "since_boot": 1.0}))


def test_a_process_that_is_gone_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = this_process().model_copy(update={"pid": process.pid, "since_boot": started_since_boot(process.pid)})
        assert 0 <= seconds_alive(process.pid) < 10
        process.kill()
        process.wait()
    assert has_ended(mark)


def test_how_long_a_process_lives_is_told_by_no_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, other: ProcessMark) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= seconds_alive(other.pid) < 60
