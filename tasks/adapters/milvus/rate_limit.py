"""A rate that adapts to what a server takes: free until it first refuses, then slower and slowly faster again.

Additive increase, multiplicative decrease, as TCP does it; one throttle for all threads that write into a collection, so
that each refusal slows all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOWEST_RATE = 50.0  # rows per second
GROWTH = 0.05  # of the rate at the last refusal, for each batch that is taken
TOGETHER = 0.5  # seconds in which refusals of calls side by side count as one


class Throttle:
    """Rows per second over all threads. Thread-safe.

    Args:
        clock: seconds, monotonic.
        sleep: waits so many seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._begun, self._taken = clock(), 0
        self._step = 0.0
        self._free = self._refused_at = float("-inf")
        self.rate: float | None = None

    def wait(self, rows: int) -> None:
        """Wait for the turn of so many rows."""
        with self._lock:
            if self.rate is None:
                return
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + rows / self.rate
        self._sleep(turn - now)

    def taken(self, rows: int) -> None:
        """The server has acknowledged so many rows."""
        with self._lock:
            self._taken += rows
            if self.rate is not None:
                self.rate += self._step

    def refused(self) -> float:
        """The server has said that this is too fast; the rate from now on, in rows per second."""
        with self._lock:
            now = self._clock()
            if self.rate is None or now - self._refused_at > TOGETHER:
                so_far = self._taken / max(now - self._begun, 1e-3) if self.rate is None else self.rate
                self.rate = max(LOWEST_RATE, so_far / 2)
                self._step = max(1.0, GROWTH * self.rate)
                self._refused_at = now
            return self.rate
