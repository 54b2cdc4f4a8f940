"""Supervises the encoder's processes: starts launch after launch while there is work.

A launch ends when a rank dies (the elastic agent ends the others, which finish the piece in progress first) or when there is
no more work. If there is work, another launch follows. A launch that finishes no piece counts against `MOST_FRUITLESS`: an
encoder that only dies is given up, and the error has its last output.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Protocol

from tasks.adapters.processes.device_locks import Devices
from tasks.domain.errors import KitestringError, Permanent, Transient

MOST_FRUITLESS = 3
LAST_WORDS_SECONDS = 2.0
log = logging.getLogger("kitestring.ranks")


class Processes(Protocol):
    """One launch of the ranks: `Torchrun`, or a test's substitute."""

    def wait(self) -> int:
        """Block until every process has ended."""

    def end(self) -> None:
        """End every process."""


class WorkQueue(Protocol):
    """The work for the processes."""

    waits_for: str

    @property
    def needs_processes(self) -> bool:
        """Whether there is work, or may be soon."""

    @property
    def has_heard_all(self) -> bool:
        """Whether all messages of an ended launch have been received."""

    def give_up(self, error: KitestringError) -> None:
        """Fail all pending work."""

    def fail(self, error: KitestringError) -> None:
        """Fail all pending and future work."""


class LaunchSupervisor:
    """Runs at most one launch at a time.

    Args:
        start: starts the processes of a launch.
        devices: the devices they run on; locked before a launch, and held while there is work.
        work: the work for the processes.
        changed: the work queue's lock, which guards this object's state, too, and is notified of every change.
        output: the file with the processes' output.
    """

    def __init__(
        self, start: Callable[[], Processes], devices: Devices, work: WorkQueue, *, changed: threading.Condition, output: Path
    ) -> None:
        self._start, self._devices, self._work, self._changed, self._output = start, devices, work, changed, output
        self._processes: Processes | None = None
        self._done = self._fruitless = 0
        self._since: float | None = None  # when the launch began, until one of its processes is ready
        self.under_way = False  # from the first request for a launch until no more work is expected and every process has ended
        self.blamed = False  # whether a rank's death in this launch was already blamed on a piece

    def begin(self) -> None:
        """Start a launch, unless one is in progress; the caller holds the lock."""
        if not self.under_way:
            in_background(self._run, name="ranks-watch", failed=self._work.fail)
            self.under_way = True

    def gained(self) -> None:
        """Record a finished piece; the caller holds the lock."""
        self._done += 1
        self._fruitless = 0

    def learnt(self) -> None:
        """Record a clue to what kills the encoder, which counts as progress of the launch; the caller holds the lock."""
        self._done += 1

    def end(self) -> None:
        """Kill every process; returns when they are gone."""
        with self._changed:
            processes, self._processes = self._processes, None
            self._devices.release()
        if processes is not None:
            processes.end()

    @property
    def starting_for(self) -> float:
        """Seconds since the current launch was started; 0 once one of its processes is ready."""
        with self._changed:
            return 0.0 if self._processes is None or self._since is None else time.monotonic() - self._since

    def ready(self) -> None:
        """Record that a process of the launch is ready; the caller holds the lock."""
        self._since = None

    def last_words(self) -> str:
        """The last relevant line of the processes' output."""
        return _last_words(self._output)

    def _run(self) -> None:
        try:
            while (processes := self._start_in_turn()) is not None:
                processes.wait()
                self._judge()
        except BaseException:
            with self._changed:
                self.under_way = False
            self.end()
            raise

    def _start_in_turn(self) -> Processes | None:
        """Start the processes once this run holds their devices; None if they are no longer needed."""
        while True:
            needed = self._work.needs_processes
            taken = needed and self._devices.take(self._note_wait, lambda: not self._work.needs_processes)
            with self._changed:
                if taken and self._work.needs_processes:
                    self._done, self.blamed, self._since = 0, False, time.monotonic()
                    self._processes = self._start()
                    return self._processes
                if not self._work.needs_processes:
                    self._devices.release()
                    self.under_way = False
                    self._changed.notify_all()
                    return None

    def _note_wait(self, reason: str) -> None:
        self._work.waits_for = reason

    def _judge(self) -> None:
        """After a launch has ended, give up if too many in a row were fruitless."""
        with self._changed:
            # A rank's last message may still be in its socket, or the socket in the listener's queue.
            self._changed.wait_for(lambda: self._work.has_heard_all, timeout=LAST_WORDS_SECONDS)
            self._processes = None
            if not self._work.needs_processes:
                return
            self._fruitless = 0 if self._done else self._fruitless + 1
            if self._fruitless >= MOST_FRUITLESS:
                died = f"the encoder's processes died {self._fruitless} times without finishing a piece"
                self._work.give_up(Transient(f"{died}: {_last_words(self._output)}"))
                self._fruitless = 0
            if self._work.needs_processes:
                log.warning("the encoder's processes ended; starting them again")


def in_background(work: Callable[..., None], *arguments: object, name: str, failed: Callable[[KitestringError], None]) -> None:
    """Run a function in a daemon thread with the caller's context, so that its log lines reach the run's log.

    Args:
        work: the function.
        arguments: its arguments.
        name: the thread's name.
        failed: receives any exception, since callers wait for the function's effects.
    """

    def run() -> None:
        try:
            work(*arguments)
        except KitestringError as error:
            failed(error)
        except BaseException as error:  # nothing else would report it
            failed(Permanent(f"a thread of this run ({name}) has ended: {type(error).__name__}: {error}; please report this"))
            log.exception("the thread %s of this run has ended", name)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True, name=name).start()


def _last_words(log_file: Path) -> str:
    if not log_file.exists():  # nothing was started yet
        return "no output"
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    of_ranks = [line for line in lines if line.startswith("[rank")]
    return (of_ranks or [line for line in lines if "Error" in line] or lines or ["no output"])[-1][-500:]
