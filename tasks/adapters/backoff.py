"""How long a call is tried again where its library does not, or may not, do it.

Not tenacity or stamina: the reaction to a failure (nothing, a read of the object, a long pause for a quota) is the caller's
loop in either case, and neither takes a clock, by which tests go through a minute in no time.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class Retries:
    """How often calls were tried again in this process, by what was called."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[str]()

    def note(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


RETRIES = Retries()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential waits, half of each at random, bounded in total ("equal jitter":
    aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
    """

    what: str = "other"  # is called; metrics count by it
    seconds: float = 60.0  # from the first try to the start of the last
    first: float = 0.1
    longest: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random

    def start(self) -> Backoff:
        """The waits of one call; its time runs from now."""
        return Backoff(policy=self, deadline=self.clock() + self.seconds, pause=self.first)


@dataclass(slots=True, kw_only=True)
class Backoff:
    """The waits between the tries of one call."""

    policy: RetryPolicy
    deadline: float
    pause: float
    tries: int = field(default=1)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait before the next try, so long where it is given; False, at once, where the time would be up by then."""
        policy = self.policy
        wait = self.pause * (1 + policy.jitter()) / 2 if seconds is None else seconds
        if policy.clock() + wait > self.deadline:
            return False
        policy.sleep(wait)
        self.pause = min(self.pause * 2, policy.longest)
        self.tries += 1
        RETRIES.note(policy.what)
        return True
