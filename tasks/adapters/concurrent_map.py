"""An ordered concurrent map that prefetches results: a distant store has high latency, but serves many calls as fast as one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

V = TypeVar("V")
R = TypeVar("R")
CALLS_AT_ONCE = 32


def ahead(call: Callable[[V], R], values: Iterable[V], *, at_once: int = CALLS_AT_ONCE) -> Iterator[R]:
    """Yield the result of a call for each value, in order; an error is raised when its turn comes.

    Args:
        call: runs in threads.
        values: consumed lazily, so a stream is never read whole.
        at_once: concurrent calls; at most twice as many results are buffered.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix="ahead") as threads:
        try:
            for value in values:
                waiting.append(threads.submit(call, value))
                if len(waiting) >= 2 * at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:  # the consumer stopped early
                future.cancel()
