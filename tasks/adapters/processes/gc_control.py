"""Disables Python's garbage collector during imports, and skips object teardown at exit.

Large imports create hundreds of thousands of permanent objects: the collector scans them repeatedly, and the interpreter frees them
one by one at exit. CPU seconds (medians of four in turn, on a busy machine of two cores):

    process                                          as it is    with collection on import    with teardown at exit
    agent, which imports torch and the encoder       4.4         5.2                          6.4
    command, which imports Prefect, pymilvus, ...    2.2         2.5                          3.1

On the start-up benchmark, of 16 to 18 s: collection costs 0.8 s, and teardown 3 to 5 s of wall time between a run's last output and its end.
Remove either measure once it saves less than half a second.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def importing() -> Iterator[None]:
    """Disable garbage collection within."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def leaving() -> Iterator[None]:
    """Exit the process with the code of a SystemExit raised within, after its threads have ended and all exit handlers have run.

    Skips the teardown of objects, since the kernel reclaims their memory. Other exceptions end the process as usual.
    """
    code: list[int] = []
    atexit.register(_leave, code)  # registered before the libraries' handlers, so it runs after them
    try:
        yield
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code.append(end.code or 0)
        raise


def _leave(code: list[int]) -> None:
    if not code:
        return
    logging.shutdown()
    with suppress(OSError, ValueError):  # the reader has closed the pipe, or the descriptor is closed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code[0])
