"""Exponential backoff for calls whose library does not, or must not, retry them.

Not tenacity or stamina: the reaction to a failure (nothing, a read of the object, a long pause for a quota) would be the caller's
loop in either case, and neither accepts a clock, which lets tests simulate a minute instantly.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class Retries:
    """Counts the retries of this process by the kind of call."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[str]()

    def note(self, kind: str) -> None:
        with self._lock:
            self._counts[kind] += 1

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


RETRIES = Retries()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential waits with half of each random, bounded in total ("equal jitter":
    aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
    """

    what: str = "other"  # kind of call; a label of the retry metric
    seconds: float = 60.0  # from the first attempt to the start of the last
    first: float = 0.1
    longest: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def start(self) -> Backoff:
        """Start the backoff of one call; its deadline counts from now."""
        return Backoff(policy=self, deadline=self.clock() + self.seconds, pause=self.first)


@dataclass(slots=True, kw_only=True)
class Backoff:
    """The waits between the attempts of one call."""

    policy: RetryPolicy
    deadline: float
    pause: float
    tries: int = field(default=1)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait before the next attempt, for `seconds` if given. Returns False at once if the wait would pass the deadline."""
        policy = self.policy
        wait = self.pause * (1 + policy.jitter()) / 2 if seconds is None else seconds
        if policy.clock() + wait > self.deadline:
            return False
        policy.sleep(wait)
        self.pause = min(self.pause * 2, policy.longest)
        self.tries += 1
        RETRIES.note(policy.what)
        return True
