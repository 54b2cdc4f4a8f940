"""Adapts the number of concurrent requests to a server: more while throughput grows, fewer when it reports that it is too busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REQUESTS_AT_FIRST, MOST_REQUESTS = 2, 64
BETTER = 1.1  # minimum factor of throughput that justifies more requests: otherwise only the latency grows
ANSWERS_A_STEP = 3  # for each request in flight; the first is not measured, since it was sent in the previous step
STEPS_SETTLED = 20  # before more requests are tried again: the server may have more replicas by then


class InFlight:
    """Limits the requests in flight. Thread-safe.

    Each step measures throughput in characters per second. If twice the requests bring less than 10% more, they only wait in the server's
    queue, and the limit returns to the previous number.

    Args:
        most: a fixed limit, if the job sets one.
        clock: seconds.
        pause: sleeps for some seconds; raises if the run is ending.
        share: returns this host's share of the requests of all hosts; None: unlimited.
    """

    def __init__(
        self,
        most: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
        share: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._changed = threading.Condition()
        self._clock, self._pause, self._fixed, self._share = clock, pause, most is not None, share
        self.limit = most or REQUESTS_AT_FIRST
        self._under_way, self._alone, self._not_before = 0, False, 0.0
        self._best, self._best_limit, self._settled = 0.0, self.limit, 0
        self._answers, self._characters, self._began = 0, 0, 0.0

    @contextmanager
    def slot(self, *, alone: bool = False) -> Iterator[None]:
        """Wait for a slot and hold it during a request. `alone`: with no other request in flight, so that a crash has one cause."""
        self._await_turn()
        with self._changed:
            if alone:
                self._changed.wait_for(lambda: not self._alone)
                self._alone = True
                self._changed.wait_for(lambda: not self._under_way)
            else:
                self._changed.wait_for(lambda: not self._alone and self._under_way < self._within_share(self.limit))
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._alone = self._alone and not alone
                self._changed.notify_all()

    def _within_share(self, requests: int) -> int:
        share = self._share()
        return requests if share is None else min(requests, share)

    def _await_turn(self) -> None:
        while (wait := self._not_before - self._clock()) > 0:
            self._pause(wait)

    def answered(self, characters: int) -> None:
        """Record a successful answer for texts of so many characters."""
        with self._changed:
            if self._fixed:
                return
            self._answers += 1
            if self._answers <= self.limit:  # sent in the previous step
                self._began = self._clock()
                return
            self._characters += characters
            if self._answers >= ANSWERS_A_STEP * self.limit + 1:
                self._step(self._characters / max(1e-9, self._clock() - self._began))
                self._changed.notify_all()

    def _step(self, rate: float) -> None:
        self._answers, self._characters = 0, 0
        if self._settled:
            self._settled -= 1
            if not self._settled:  # measure the current limit again before more is tried
                self._best = 0.0
        elif rate > self._best * BETTER:
            self._best, self._best_limit = rate, self.limit
            self.limit = self._within_share(min(MOST_REQUESTS, self.limit * 2))
        else:
            self.limit, self._settled = self._best_limit, STEPS_SETTLED

    def too_busy(self, seconds: float) -> None:
        """Record that the server is too busy: halves the limit, and sends nothing for `seconds`."""
        with self._changed:
            now = self._clock()
            if not self._fixed and now >= self._not_before:  # halve once for requests that were refused together
                self.limit = max(1, self.limit // 2)
                self._best_limit, self._settled = self.limit, STEPS_SETTLED
                self._answers, self._characters = 0, 0
            self._not_before = max(self._not_before, now + seconds)
