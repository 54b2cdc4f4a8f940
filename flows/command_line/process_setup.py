"""Prepares the process of a command: output that accepts any text, and a home folder for libraries that need one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tasks.adapters.processes.scratch import scratch_folder


@contextmanager
def process_environment() -> Iterator[None]:
    """Prepare output streams and a home folder for the duration of the command."""
    for stream in (sys.stdout, sys.stderr):
        if not takes_unicode(stream) and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # otherwise Prefect prints a notice about usage data on a terminal
    with _home():
        yield


def takes_unicode(stream: TextIO) -> bool:
    """Return whether the stream accepts every character."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


@contextmanager
def _home() -> Iterator[None]:
    """Provide a temporary home folder to a container's user without one: Prefect, torch and the model cache need it.

    Its content, including models from the hub, is removed with the command.
    """
    try:
        Path.home()
    except RuntimeError:
        with scratch_folder() as scratch:
            os.environ["HOME"] = str(scratch)
            os.environ.setdefault("LOGNAME", str(os.getuid()))
            sys.stderr.write("note: this user has no home folder, so nothing is cached: set HOME to a writable folder\n")
            try:
                yield
            finally:
                del os.environ["HOME"]
    else:
        yield
