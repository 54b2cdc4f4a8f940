"""Python's garbage collector, kept out of the way while libraries are imported and when the process ends.

Large imports make hundreds of thousands of objects that all stay: they are looked through for garbage again and again, and taken apart
one by one at exit. In seconds of CPU time (medians of four in turn, on a busy machine of two cores):

    process                                          as it is    collecting while importing    taken apart at exit
    agent, which imports torch and the encoder       4.4         5.2                           6.4
    command, which imports Prefect, pymilvus, ...    2.2         2.5                           3.1

On the start-up benchmark, of 16 to 18 s: 0.8 s more with the first, and 3 to 5 s on the clock between a run's last word and its end with
the second. Either is to go as soon as it is under half a second.
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
    """Nothing is collected within."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def leaving() -> Iterator[None]:
    """Have the process end with the code of the SystemExit within, as soon as its threads have ended and all is done that is due at exit.

    Nothing is taken apart then: the kernel takes it all. What else is raised within ends the process as ever.
    """
    code: list[int] = []
    atexit.register(_leave, code)  # before the libraries register theirs, so that it comes after them
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
    with suppress(OSError, ValueError):  # the reader of the output is gone, or the descriptor is closed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code[0])
