"""The one thread of a fleet, and how other threads have it do something."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tasks.domain.errors import KitestringError, Transient

CLOSED = "the engine is closed: the run is ending"


class FleetThread:
    """Acts are queued for the thread, which a subclass' `_drive` is."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._over = False
        self._broken: KitestringError | None = None

    def start(self) -> None:
        """As of `Engine`."""
        with self._lock:
            if self._thread is None and not self._over:
                self._thread = threading.Thread(target=self._drive, daemon=True, name="fleet")
                self._thread.start()

    def _drive(self) -> None:
        raise NotImplementedError

    def _do(self, act: Callable[[], None], waits: Future[Any]) -> None:
        """Have the thread do it; `waits` fails where the thread has ended, or ends before it comes to it."""

        def careful() -> None:
            if self._broken is not None and not waits.done():
                waits.set_exception(self._broken)
            elif not waits.done():
                act()

        self.start()
        self._inbox.put(careful)
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
