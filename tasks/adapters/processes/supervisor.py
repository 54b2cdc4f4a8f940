"""The encoder's processes, launch after launch, as long as there is work for them.

A launch ends when a rank dies (the elastic agent ends the others, which finish the piece in progress first) or when there is
no more work. If there is work, another one follows. One that got nothing done counts against `MOST_FRUITLESS`: an
encoder that only dies is given up, with its last output.
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
    """One launch of the ranks: `Torchrun`, or what a test puts in its place."""

    def wait(self) -> int:
        """Block until every process has ended."""

    def end(self) -> None:
        """End every process."""


class WorkQueue(Protocol):
    """Has work for the processes."""

    waits_for: str

    @property
    def needs_processes(self) -> bool:
        """Whether there is, or may come, something for them to do."""

    @property
    def has_heard_all(self) -> bool:
        """Whether nothing of a launch that has ended is still to be heard."""

    def give_up(self, error: KitestringError) -> None:
        """Fail all that waits for them."""

    def fail(self, error: KitestringError) -> None:
        """Fail all that waits for them, and all that comes."""


class LaunchSupervisor:
    """At most one launch at a time.

    Args:
        start: starts the processes of one.
        devices: the devices they run on; locked before a launch, and held while there is work.
        employer: asked whether there is.
        changed: the employer's lock, which guards everything here as well, and is notified of every change.
        said: the file for the processes' output.
    """

    def __init__(
        self, start: Callable[[], Processes], devices: Devices, employer: WorkQueue, *, changed: threading.Condition, said: Path
    ) -> None:
        self._start, self._devices, self._employer, self._changed, self._said = start, devices, employer, changed, said
        self._processes: Processes | None = None
        self._done = self._fruitless = 0
        self._since: float | None = None  # when the launch began, until one of its processes is ready
        self.under_way = False  # from the first request for a launch until none is requested and every process has ended
        self.blamed = False  # whether it is known which rank's death ended the launch

    def begin(self) -> None:
        """Launch, unless that is under way; the caller holds the lock."""
        if not self.under_way:
            in_background(self._run, name="ranks-watch", failed=self._employer.fail)
            self.under_way = True

    def gained(self) -> None:
        """Something got done; the caller holds the lock."""
        self._done += 1
        self._fruitless = 0

    def learnt(self) -> None:
        """It is known more of what kills the encoder, which is to get on; the caller holds the lock."""
        self._done += 1

    def end(self) -> None:
        """End every process, now; returns when they are gone."""
        with self._changed:
            processes, self._processes = self._processes, None
            self._devices.release()
        if processes is not None:
            processes.end()

    @property
    def starting_for(self) -> float:
        """Seconds since the processes of a launch were started of which none was ready yet."""
        with self._changed:
            return 0.0 if self._processes is None or self._since is None else time.monotonic() - self._since

    def ready(self) -> None:
        """A process of the launch is ready for work; the caller holds the lock."""
        self._since = None

    def last_words(self) -> str:
        """What the processes said last."""
        return _last_words(self._said)

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
        """Start the processes once this run holds their devices; None where they are no longer needed."""
        while True:
            needed = self._employer.needs_processes
            taken = needed and self._devices.take(self._tell, lambda: not self._employer.needs_processes)
            with self._changed:
                if taken and self._employer.needs_processes:
                    self._done, self.blamed, self._since = 0, False, time.monotonic()
                    self._processes = self._start()
                    return self._processes
                if not self._employer.needs_processes:
                    self._devices.release()
                    self.under_way = False
                    self._changed.notify_all()
                    return None

    def _tell(self, what: str) -> None:
        self._employer.waits_for = what

    def _judge(self) -> None:
        """When a launch has ended, see whether another one makes sense."""
        with self._changed:
            # What a rank said last may still be in its socket, or the socket in the listener's queue.
            self._changed.wait_for(lambda: self._employer.has_heard_all, timeout=LAST_WORDS_SECONDS)
            self._processes = None
            if not self._employer.needs_processes:
                return
            self._fruitless = 0 if self._done else self._fruitless + 1
            if self._fruitless >= MOST_FRUITLESS:
                died = f"the encoder's processes died {self._fruitless} times without finishing a piece"
                self._employer.give_up(Transient(f"{died}: {_last_words(self._said)}"))
                self._fruitless = 0
            if self._employer.needs_processes:
                log.warning("the encoder's processes ended; starting them again")


def in_background(work: Callable[..., None], *arguments: object, name: str, failed: Callable[[KitestringError], None]) -> None:
    """With the context of the calling thread, so that its log lines reach the run's log.

    Args:
        work: what the thread does.
        arguments: of `work`.
        name: the thread's.
        failed: receives the exception of work that did not return, since callers wait for its result.
    """

    def run() -> None:
        try:
            work(*arguments)
        except KitestringError as error:
            failed(error)
        except BaseException as error:  # no other handler would see it
            failed(Permanent(f"a thread of this run ({name}) has ended: {type(error).__name__}: {error}; please report this"))
            log.exception("the thread %s of this run has ended", name)

    threading.Thread(target=copy_context().run, args=(run,), daemon=True, name=name).start()


def _last_words(log_file: Path) -> str:
    if not log_file.exists():  # nothing was started yet
        return "no output"
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("[rank")]
    return (told or [line for line in lines if "Error" in line] or lines or ["no output"])[-1][-500:]
