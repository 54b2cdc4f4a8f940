"""Adaptive rate limit of writes: unlimited until the server first refuses, then slower, and gradually faster again.

Additive increase, multiplicative decrease, as in TCP. All threads that write into a collection share one throttle, so
each refusal slows all of them. If several machines write, each has a throttle; the flow's throttle receives the counts of
all of them and divides its rate among them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pydantic import Field

from tasks.domain.strict import Strict

LOWEST_RATE = 50.0  # rows per second
GROWTH = 0.05  # of the rate at the last refusal, for each accepted batch
TOGETHER = 0.5  # seconds within which refusals of concurrent calls count as one


class LoadCounts(Strict):
    """The counts of a throttle since it was created."""

    rows: int = Field(0, ge=0, description="Acknowledged rows.")
    batches: int = Field(0, ge=0, description="Acknowledged batches.")
    refusals: int = Field(0, ge=0)


class Throttle:
    """Rows per second over all threads. Thread-safe.

    Args:
        clock: monotonic seconds.
        sleep: sleeps for a number of seconds.
        together: seconds within which refusals count as one.
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
        """Start measuring the rate, when the first rows are about to be sent."""
        self._begun = self._clock() if self._begun is None else self._begun

    def wait(self, rows: int) -> None:
        """Wait until `rows` rows may be sent."""
        with self._lock:
            self.begin()
            if self.rate is None:
                return
            now = self._clock()
            turn = max(now, self._free)
            self._free = turn + rows / self.rate
        self._sleep(turn - now)

    def taken(self, rows: int, *, batches: int = 1) -> None:
        """Record that the server has acknowledged rows, and raise the rate."""
        with self._lock:
            self.begin()
            self._count(rows=rows, batches=batches)
            if self.rate is not None:
                self.rate += self._step * batches

    def refused(self) -> float:
        """Record that the server has refused the rate; returns the new rate in rows per second."""
        with self._lock:
            now = self._clock()
            self._count(refusals=1)
            if self.rate is None or now - self._refused_at > self._together:
                begun = now if self._begun is None else self._begun
                current = self.counts.rows / max(now - begun, 1e-3) if self.rate is None else self.rate
                self._slow_down(max(LOWEST_RATE, current / 2), now)
            return self.rate or LOWEST_RATE

    def share(self, rate: float | None, *, heard: int) -> None:
        """Adopt this machine's share of the common rate.

        Args:
            rate: rows per second; None: the rate stays as it is.
            heard: number of this throttle's refusals that the share accounts for; a share that misses some is ignored.
        """
        with self._lock:
            if rate is not None and heard >= self.counts.refusals:
                self.rate, self._step = rate, 0.0

    def hear(self, before: LoadCounts, now: LoadCounts) -> None:
        """Add what another machine's throttle has counted between two reports."""
        if now.batches > before.batches:
            self.taken(now.rows - before.rows, batches=now.batches - before.batches)
        if now.refusals > before.refusals:
            self.refused()

    def _slow_down(self, rate: float, now: float) -> None:
        self.rate, self._step, self._refused_at = rate, max(1.0, GROWTH * rate), now

    def _count(self, *, rows: int = 0, batches: int = 0, refusals: int = 0) -> None:
        now = self.counts
        self.counts = LoadCounts(rows=now.rows + rows, batches=now.batches + batches, refusals=now.refusals + refusals)
