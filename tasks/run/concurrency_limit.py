"""Waiting for one's turn across hosts: slots of a Prefect concurrency limit, one for each host that encodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.concurrency.sync import concurrency

from tasks.run.progress import Journal

TRY_SECONDS = 2.0  # between looking whether a slot is free
LEASE_SECONDS = 60.0  # for so long a slot stays taken after its run was killed


@contextmanager
def turn(limit: str | None, journal: Journal, *, slots: int = 1) -> Iterator[None]:
    """Hold so many slots of the limit; the journal shows the wait. A limit that does not exist is no limit.

    The server takes slots back where the run does not renew them; a server that is away for a while does not end the run.
    """
    if limit is None:
        yield
        return
    with ExitStack() as stack:
        wanted = "a slot" if slots == 1 else f"{slots:,} slots, one for each host,"
        while not _taken(stack, limit, slots):
            journal.waits_for = lambda: f"{wanted} of the Prefect concurrency limit '{limit}', which other runs hold"
        journal.waits_for, journal.started = str, time.monotonic()
        yield


def _taken(stack: ExitStack, limit: str, slots: int) -> bool:
    held = concurrency(limit, occupy=slots, timeout_seconds=TRY_SECONDS, lease_duration=LEASE_SECONDS, strict=False)
    try:
        stack.enter_context(held)
    except TimeoutError:
        return False
    return True
