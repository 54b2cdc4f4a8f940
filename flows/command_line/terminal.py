"""Progress and messages of a command, on stderr; results go to stdout."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from tasks.domain.progress.snapshot import Counted, RateMeter, Snapshot
from tasks.domain.report.hosts import PRESENT_STATES
from tasks.run.progress import LISTENERS, Journal, Listener

PLAIN_EVERY = 10.0  # seconds between two lines if stderr is not a terminal
PHASE = 8  # columns
WIDEST_BAR, SHORTEST_BAR = 40, 8  # columns
command_log = logging.getLogger("kitestring-command")  # messages that the terminal shows in another way; only for `--log-file`
command_log.propagate = False
command_log.addHandler(logging.NullHandler())
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class _Bar(BarColumn):
    """A bar in the space that the text leaves; none if that is too little: the text takes precedence."""

    def render(self, task: Task) -> Any:
        words = cell_len(task.fields["line"]) + max(PHASE, cell_len(task.description))
        room = min(WIDEST_BAR, errors.width - words - 2)
        self.bar_width = room
        return super().render(task) if room >= SHORTEST_BAR else Text("")


def bar_columns(phase: str = "[bold]{task.description:>8}") -> tuple[ProgressColumn, ...]:
    """Return the columns: the phase, a bar, and text that wraps on a narrow terminal."""
    words = TextColumn("{task.fields[line]}", markup=False, table_column=Column(overflow="fold"))
    return TextColumn(phase, table_column=Column(no_wrap=True, min_width=PHASE)), _Bar(), words


def draws() -> bool:
    """Return whether stderr is a terminal on which a line can be redrawn."""
    return sys.stderr.isatty() and not errors.is_dumb_terminal


def progress_line(now: Snapshot, rate: float) -> str:
    """Format progress in one line: rows, rate and remaining time, or what the run waits for."""
    if now.waits_for:
        return f"waiting for {now.waits_for}"
    if now.counted:
        return ", ".join([counted_line(now.counted), *([f"{now.loaded:,} rows loaded"] if now.loaded else [])])
    parts = [f"{now.of_rows} rows"]
    if rate:
        parts.append(f"{rate:,.0f} rows/s")
    left = _seconds_left(now, rate)
    if left is not None:
        parts.append(f"{_clock(left)} left")
    if hosts := now.encoding.hosts:
        there = sum(host.moments[-1].state in PRESENT_STATES for host in hosts)
        parts.append(f"{there:,} of {len(hosts):,} hosts at work")
    if now.loaded:
        parts.append(f"{now.loaded:,} loaded")
    if now.shards_failed:
        parts.append(f"{now.shards_failed} shards failed")
    return ", ".join(parts)


def counted_line(counted: Counted) -> str:
    """Format a count in one line: done, rate and remaining time."""
    rate, left = counted.rate, counted.total - counted.done
    parts = [f"{counted.done:,} of {counted.total:,} {counted.what}"]
    if rate >= 1:
        parts.append(f"{rate:,.0f} {counted.what.split()[0]}/s")
    if rate and left > 0:
        parts.append(f"{_clock(left / rate)} left")
    return ", ".join(parts)


def _seconds_left(now: Snapshot, rate: float) -> float | None:
    return (now.goal - now.done) / rate if rate and now.goal and now.goal > now.done else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressBar:
    """A progress bar for a terminal."""

    def __init__(self, progress: Progress, line: str = "") -> None:
        self._progress, self._rate = progress, RateMeter()
        self._task: TaskID = progress.add_task("start", total=None, line=line)

    def __call__(self, now: Snapshot) -> None:
        done, total = now.bar
        self._progress.update(self._task, description=now.phase, total=total, completed=done, line=_line(now, self._rate.of(now)))


class ProgressLines:
    """Prints a plain progress line every ten seconds and at each new stage."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        self._print, self._rate, self._printed_at, self._stage = print_line, RateMeter(), -PLAIN_EVERY, ("", "")

    def __call__(self, now: Snapshot) -> None:
        rate = self._rate.of(now)
        stage = (now.phase, now.waits_for)
        due = time.monotonic() - self._printed_at >= PLAIN_EVERY or stage != self._stage
        if due and not now.ended:
            self._printed_at, self._stage = time.monotonic(), stage
            self._print(f"{now.phase}: {_line(now, rate)}")


class ObjectCounter:
    """Shows how many objects a command without a run has processed: a bar on a terminal, otherwise a line every ten seconds."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._task = progress, progress.add_task("", total=None, line="") if progress else TaskID(0)
        self._printed_at = time.monotonic()  # so that short operations print no line

    def __call__(self, what: str, done: int, total: int | None) -> None:
        line = f"{done:,} objects" if total is None else f"{done:,} of {total:,} objects"
        if self._progress:
            self._progress.update(self._task, description=what, total=total, completed=done, line=line)
        elif time.monotonic() - self._printed_at >= PLAIN_EVERY:
            self._printed_at = time.monotonic()
            errors.print(f"{what}: {line}", markup=False)


@contextmanager
def count_shown() -> Iterator[ObjectCounter]:
    """Show a count for the duration of the block."""
    if not draws():
        yield ObjectCounter(None)
        return
    with Progress(*bar_columns("{task.description:>9}"), console=errors, transient=True) as bar:
        yield ObjectCounter(bar)


def _line(now: Snapshot, rate: float) -> str:
    known = now.encoded or now.goal or now.counted
    return progress_line(now, rate) if now.phase != "start-up" and known else _waiting(now)


def _waiting(now: Snapshot) -> str:
    if now.waits_for:
        return f"waiting for {now.waits_for}"
    return f"{now.seconds:.0f} s; the encoder is starting" if now.phase == "start-up" else f"{now.seconds:.0f} s"


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show the progress and warnings of this process' run for the duration of the block."""
    with snapshots_drawn("checking the job and starting Prefect") as draw, _warnings_shown():
        LISTENERS.append(draw)
        try:
            yield
        finally:
            LISTENERS.remove(draw)


@contextmanager
def snapshots_drawn(first: str = "") -> Iterator[Listener]:
    """Yield a listener that draws a run's snapshots: as a bar on a terminal, otherwise as lines; always as lines in the log file.

    `first`: the bar's text until the first snapshot.
    """
    logged = ProgressLines(command_log.info)
    with Progress(*bar_columns(), console=errors, transient=True) if draws() else nullcontext() as progress:
        shown = ProgressBar(progress, first) if progress else ProgressLines(_print_line)

        def draw(now: Snapshot) -> None:
            shown(now)
            logged(now)

        yield draw


def _print_line(line: str) -> None:
    errors.print(line, markup=False)


@contextmanager
def rows_watched(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` rows are compared, and the remaining time; nothing if `total` is 0. Yields the function that adds rows."""
    if not total:
        yield lambda _rows: None
        return
    journal = Journal(stage="verify")
    with snapshots_drawn() as draw, journal.counting("rows compared", total) as add:
        journal.listeners.append(draw)
        with journal.ticking():
            yield add


class _Warnings(logging.Handler):
    """Prints Kitestring's warnings above the progress bar; Prefect's console output is off."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(f"{record.levelname.lower()}: {record.getMessage()}", markup=False)


@contextmanager
def _warnings_shown() -> Iterator[None]:
    handler, logger = _Warnings(logging.WARNING), logging.getLogger("kitestring")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
