"""A process's handlers of signals, kept from a library that takes them.

Ray's driver takes SIGTERM and the signals of crashes when it joins a cluster, below Python, and leaves them without any handler when it
leaves (`RayLog::UninstallSignalAction`): a run that is cancelled or terminated would end before it could say what it has saved, and a
crash of the process would leave no stack of Python's.
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
    """Whatever is done within, the process's handlers are afterwards those of before."""
    python = {number: signal.getsignal(number) for number in TAKEN}
    kernel = {number: handler_of(number) for number in TAKEN}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # in no other could anybody have set one of Python's
            for number, handler in python.items():
                if handler is not None and signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
        for number, action in kernel.items():
            ctypes.CDLL(None).sigaction(int(number), action, None)


def handler_of(number: signal.Signals) -> bytes:
    """What the C library has for a signal: a `struct sigaction`, and zeros after it."""
    action = ctypes.create_string_buffer(LARGEST)
    ctypes.CDLL(None).sigaction(int(number), None, action)
    return action.raw
