"""How a rank is ended from outside: by its parent's death (at once), and by SIGTERM (after the piece in progress)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tasks.adapters.processes.process_guard import die_with_parent, name_process

GRACE_SECONDS = 20.0  # torch's elastic agent sends SIGKILL 30 s after SIGTERM


def be_a_rank() -> None:
    """Die with the parent, reset inherited signal handlers, set the process title."""
    die_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    name_process(f"ks-rank-{os.environ.get('LOCAL_RANK', '0')}")


class ShutdownSignal:
    """SIGTERM, heard once: how long this rank may still go on."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._wake: Callable[[], None] | None = None

    def listen(self, wake: Callable[[], None] | None = None) -> None:
        """Take SIGTERM over. `wake` is called in the signal handler: it may do no more than a reentrant put.

        Only the main thread can do this.
        """
        self._wake = wake
        signal.signal(signal.SIGTERM, self._heard)

    def _heard(self, _signal: int, _frame: object) -> None:
        self.give(GRACE_SECONDS)

    def give(self, seconds: float) -> None:
        """Note that this rank has to leave within so many seconds; a second notice changes nothing."""
        if self._deadline is None:
            self._deadline = time.monotonic() + seconds
        if self._wake is not None:
            self._wake()

    @property
    def given(self) -> bool:
        return self._deadline is not None

    def allows(self, seconds: float) -> bool:
        """Whether work that takes so many seconds can still be finished."""
        return self._deadline is None or time.monotonic() + seconds < self._deadline
