"""The single thread of a fleet, and how other threads run functions in it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tasks.domain.errors import KitestringError, Transient

CLOSED = "the engine is closed: the run is ending"


class FleetThread:
    """Queues functions for the thread, which runs a subclass's `_drive`."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._over = False
        self._broken: KitestringError | None = None

    def start(self) -> None:
        """See `Engine`."""
        with self._lock:
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._drive, daemon=True, name="fleet")
                self._thread.start()

    def _drive(self) -> None:
        raise NotImplementedError

    def _do(self, act: Callable[[], None], waits: Future[Any]) -> None:
        """Run `act` in the thread; `waits` fails if the thread has ended, or ends before it runs `act`."""

        def act_unless_broken() -> None:
            if self._broken is not None and not waits.done():
                waits.set_exception(self._broken)
            elif not waits.done():
                act()

        self.start()
        self._inbox.put(act_unless_broken)
        with self._lock:
            gone = self._over and (self._thread is None or not self._thread.is_alive())
        if gone:
            self._drain()

    def _drain(self) -> None:
        if self._broken is None:
            self._broken = Transient(CLOSED)
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return
