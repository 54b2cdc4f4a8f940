"""The encoder's processes, launch after launch, as long as there is work for them.

A launch ends when a rank dies (the elastic agent ends the others, which finish the piece in hand first) or when there is
no more work. If there is work, another one follows. One that got nothing done counts against `MOST_FRUITLESS`: an
encoder that only dies is given up, with what it said last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Protocol

from tasks.adapters.devices import Devices
from tasks.domain.errors import KitestringError, Transient

MOST_FRUITLESS = 3
LAST_WORDS_SECONDS = 2.0
log = logging.getLogger("kitestring.ranks")


class Processes(Protocol):
    """One launch of the ranks: `Torchrun`, or what a test puts in its place."""

    def wait(self) -> int:
        """Block until every process is gone."""

    def end(self) -> None:
        """End every process."""


class Employer(Protocol):
    """Who has work for the processes."""

    waits_for: str

    @property
    def needs_processes(self) -> bool:
        """Whether there is, or may come, something for them to do."""

    @property
    def has_heard_all(self) -> bool:
        """Whether nothing of a launch that has ended is still to be heard."""

    def give_up(self, error: KitestringError) -> None:
        """Fail all that waits for them."""


class Launches:
    """At most one launch at a time.

    Args:
        start: starts the processes of one.
        devices: what they run on; taken before a launch, and held while there is work.
        employer: asked whether there is.
        changed: the employer's lock, which guards everything here as well, and tells of every change.
        said: where the processes write what they say.
    """

    def __init__(
        self, start: Callable[[], Processes], devices: Devices, employer: Employer, *, changed: threading.Condition, said: Path
    ) -> None:
        self._start, self._devices, self._employer, self._changed, self._said = start, devices, employer, changed, said
        self._processes: Processes | None = None
        self._done = self._fruitless = 0
        self.under_way = False  # from the wish for one until none is wished for any more and every process is gone
        self.blamed = False  # whether it is known which rank's death ended the launch

    def begin(self) -> None:
        """Launch, unless that is under way; the caller holds the lock."""
        if not self.under_way:
            self.under_way = True
            in_background(self._run, name="ranks-watch")

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

    def _run(self) -> None:
        while (processes := self._start_in_turn()) is not None:
            processes.wait()
            self._judge()

    def _start_in_turn(self) -> Processes | None:
        """Start the processes once their devices are this run's; None where nobody needs them any more."""
        while True:
            needed = self._employer.needs_processes
            taken = needed and self._devices.take(self._tell, lambda: not self._employer.needs_processes)
            with self._changed:
                if taken and self._employer.needs_processes:
                    self._done, self.blamed = 0, False
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


def in_background(work: Callable[..., None], *arguments: object, name: str) -> None:
    """With the context of who starts it, so that what it logs stands in the run's log."""
    threading.Thread(target=copy_context().run, args=(work, *arguments), daemon=True, name=name).start()


def _last_words(log_file: Path) -> str:
    lines = [line.strip() for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("[rank")]
    return (told or [line for line in lines if "Error" in line] or lines or ["it said nothing"])[-1][-500:]
