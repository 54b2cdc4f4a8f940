"""Wait for slots of a Prefect concurrency limit, one for each host that encodes, so that runs on several machines take turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.concurrency.sync import concurrency

from tasks.run.progress import Journal

TRY_SECONDS = 2.0  # for a slot to become free, in each attempt
LEASE_SECONDS = 60.0  # that a slot stays occupied after its run was killed


@contextmanager
def turn(limit: str | None, journal: Journal, *, slots: int = 1) -> Iterator[None]:
    """Occupy slots of the limit while the body runs; the journal shows the wait. A limit that does not exist does not limit.

    The server releases slots that the run does not renew; a temporarily unreachable server does not end the run.
    """
    if limit is None:
        yield
        return
    with ExitStack() as stack:
        needed = "a slot" if slots == 1 else f"{slots:,} slots, one for each host,"
        while not _occupied(stack, limit, slots):
            journal.waits_for = lambda: f"{needed} of the Prefect concurrency limit '{limit}', which other runs hold"
        journal.waits_for, journal.started = str, time.monotonic()
        yield


def _occupied(stack: ExitStack, limit: str, slots: int) -> bool:
    occupied = concurrency(limit, occupy=slots, timeout_seconds=TRY_SECONDS, lease_duration=LEASE_SECONDS, strict=False)
    try:
        stack.enter_context(occupied)
    except TimeoutError:
        return False
    return True
