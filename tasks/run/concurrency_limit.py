"""Waiting for one's turn across hosts: a slot of a Prefect concurrency limit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.concurrency.sync import concurrency

from tasks.run.progress import Journal

TRY_SECONDS = 2.0  # between looking whether a slot is free
LEASE_SECONDS = 60.0  # for so long a slot stays taken after its run was killed


@contextmanager
def turn(limit: str | None, journal: Journal) -> Iterator[None]:
    """Hold a slot of the limit; the journal shows the wait. A limit that does not exist is no limit.

    The server takes the slot back where the run does not renew it; a server that is away for a while does not end the run.
    """
    if limit is None:
        yield
        return
    with ExitStack() as stack:
        while not _taken(stack, limit):
            journal.waits_for = lambda: f"a slot of the Prefect concurrency limit '{limit}', which other runs hold"
        journal.waits_for, journal.started = str, time.monotonic()
        yield


def _taken(stack: ExitStack, limit: str) -> bool:
    held = concurrency(limit, timeout_seconds=TRY_SECONDS, lease_duration=LEASE_SECONDS, strict=False)
    try:
        stack.enter_context(held)
    except TimeoutError:
        return False
    return True
