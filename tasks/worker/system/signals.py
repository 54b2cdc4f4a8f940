"""How a rank ends: at once when its parent dies, after the piece in progress on SIGTERM."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from tasks.adapters.processes.process_guard import die_with_parent, name_process

GRACE_SECONDS = 20.0  # torch's elastic agent sends SIGKILL 30 s after SIGTERM


def set_up_rank_process() -> None:
    """Die with the parent, reset inherited signal handlers, set the process title."""
    die_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    name_process(f"ks-rank-{os.environ.get('LOCAL_RANK', '0')}")


class ShutdownSignal:
    """Records SIGTERM, and says how long this rank may still work."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._wake: Callable[[], None] | None = None

    def listen(self, wake: Callable[[], None] | None = None) -> None:
        """Install the SIGTERM handler. It calls `wake`, which must be reentrant, such as the put of a SimpleQueue.

        Only the main thread can do this.
        """
        self._wake = wake
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, _signal: int, _frame: object) -> None:
        self.request(GRACE_SECONDS)

    def request(self, seconds: float) -> None:
        """Require this rank to exit within so many seconds. Later calls do not change the deadline."""
        if self._deadline is None:
            self._deadline = time.monotonic() + seconds
        if self._wake is not None:
            self._wake()

    @property
    def received(self) -> bool:
        return self._deadline is not None

    def allows(self, seconds: float) -> bool:
        """Return whether work of so many seconds can still finish before the deadline."""
        return self._deadline is None or time.monotonic() + seconds < self._deadline
