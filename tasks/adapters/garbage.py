"""Python's garbage collector, kept out of the way while libraries are imported and when the process ends.

Large imports make hundreds of thousands of objects that all stay: looking through them again and again for garbage
is a sixth of the time that the import takes (measured), and looking once more at exit half a second.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


def leave_at_exit() -> None:
    """Have the process end without looking for garbage: the kernel takes it all."""
    atexit.register(_leave)


def _leave() -> None:
    if not {"torch", "duckdb"} & sys.modules.keys():  # their bindings complain at length of everything that is left
        gc.freeze()
