"""A rate that adapts to what a server takes: free until it first refuses, then slower and slowly faster again.

Additive increase, multiplicative decrease, as TCP does it; one throttle for all threads that write into a collection, so
that each refusal slows all of them. Where several machines write, each has one, and the flow has one that hears of what all of
theirs have counted and shares its rate among them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pydantic import Field

from tasks.domain.strict import Strict

LOWEST_RATE = 50.0  # rows per second
GROWTH = 0.05  # of the rate at the last refusal, for each batch that is taken
TOGETHER = 0.5  # seconds in which refusals of calls side by side count as one


class LoadCounts(Strict):
    """What a throttle has seen since it was made."""

    rows: int = Field(0, ge=0, description="Acknowledged.")
    batches: int = Field(0, ge=0, description="In which they were.")
    refusals: int = Field(0, ge=0)


class Throttle:
    """Rows per second over all threads. Thread-safe.

    Args:
        clock: seconds, monotonic.
        sleep: waits so many seconds.
        together: seconds in which refusals count as one.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        together: float = TOGETHER,
    ) -> None:
        self._clock, self._sleep, self._together = clock, sleep, together
        self._lock = threading.Lock()
        self._begun: float | None = None  # when the first rows were about to be sent
        self._step = 0.0
        self._free = self._refused_at = float("-inf")
        self.rate: float | None = None
        self.counts = LoadCounts()

    def begin(self) -> None:
        """Rows are about to be sent: from here on the rate so far is counted."""
        self._begun = self._clock() if self._begun is None else self._begun

    def wait(self, rows: int) -> None:
        """Wait for the turn of so many rows."""
        with self._lock:
            self.begin()
            if self.rate is None:
                return
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + rows / self.rate
        self._sleep(turn - now)

    def taken(self, rows: int, *, batches: int = 1) -> None:
        """The server has acknowledged so many rows."""
        with self._lock:
            self.begin()
            self._count(rows=rows, batches=batches)
            if self.rate is not None:
                self.rate += self._step * batches

    def refused(self) -> float:
        """The server has said that this is too fast; the rate from now on, in rows per second."""
        with self._lock:
            now = self._clock()
            self._count(refusals=1)
            if self.rate is None or now - self._refused_at > self._together:
                begun = now if self._begun is None else self._begun
                so_far = self.counts.rows / max(now - begun, 1e-3) if self.rate is None else self.rate
                self._slow_down(max(LOWEST_RATE, so_far / 2), now)
            return self.rate or LOWEST_RATE

    def share(self, rate: float | None, *, heard: int) -> None:
        """Take over a share of what several machines may send.

        Args:
            rate: rows per second; None: as fast as the server takes them.
            heard: refusals of this throttle that whoever shares knows of: until it knows of all, the share is not the last word.
        """
        with self._lock:
            if rate is not None and heard >= self.counts.refusals:
                self.rate, self._step = rate, 0.0

    def hear(self, before: LoadCounts, now: LoadCounts) -> None:
        """Take in what another machine's throttle has counted since it was last heard of."""
        if now.batches > before.batches:
            self.taken(now.rows - before.rows, batches=now.batches - before.batches)
        if now.refusals > before.refusals:
            self.refused()

    def _slow_down(self, rate: float, now: float) -> None:
        self.rate, self._step, self._refused_at = rate, max(1.0, GROWTH * rate), now

    def _count(self, *, rows: int = 0, batches: int = 0, refusals: int = 0) -> None:
        now = self.counts
        self.counts = LoadCounts(rows=now.rows + rows, batches=now.batches + batches, refusals=now.refusals + refusals)
