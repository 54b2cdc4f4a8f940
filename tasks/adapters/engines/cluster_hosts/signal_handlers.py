"""Saves and restores a process's signal handlers around a library that replaces them.

Ray's driver replaces the handlers of SIGTERM and of crash signals in C when it joins a cluster, and leaves them without any when it
leaves (`RayLog::UninstallSignalAction`): a cancelled or terminated run would end before it could report what it has saved, and a
crash would leave no Python stack.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TAKEN = (signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)
LARGEST = 512  # bytes; a `struct sigaction` is 152 on Linux and 16 on macOS


@contextmanager
def kept_handlers() -> Iterator[None]:
    """Restore the process's signal handlers on exit."""
    python = {number: signal.getsignal(number) for number in TAKEN}
    kernel = {number: handler_of(number) for number in TAKEN}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # only there can Python handlers be set
            for number, handler in python.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
        for number, action in kernel.items():
            ctypes.CDLL(None).sigaction(int(number), action, None)


def handler_of(number: signal.Signals) -> bytes:
    """The C library's action for a signal: a `struct sigaction`, followed by zeros."""
    action = ctypes.create_string_buffer(LARGEST)
    ctypes.CDLL(None).sigaction(int(number), None, action)
    return action.raw
