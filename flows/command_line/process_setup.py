"""What the command sees to before it does anything: output that takes any text, and a home folder for the libraries that need one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tasks.adapters.processes.scratch import scratch_folder


@contextmanager
def surroundings() -> Iterator[None]:
    """For as long as the command lasts."""
    for stream in (sys.stdout, sys.stderr):
        if not takes_unicode(stream) and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # or Prefect says above the first answer on a terminal that it collects usage data
    with _home():
        yield


def takes_unicode(stream: TextIO) -> bool:
    """Whether every character can be written to it."""
    return (stream.encoding or "ascii").lower().replace("-", "").startswith("utf")


@contextmanager
def _home() -> Iterator[None]:
    """A container's arbitrary user has neither a name nor a home: Prefect, torch and the model cache end in tracebacks without.

    What is kept there is gone with the command, a model from the hub as well.
    """
    try:
        Path.home()
    except RuntimeError:
        with scratch_folder() as scratch:
            os.environ["HOME"] = str(scratch)
            os.environ.setdefault("LOGNAME", str(os.getuid()))
            sys.stderr.write("note: this user has no home folder, so nothing is cached: set HOME to a folder that can be written\n")
            try:
                yield
            finally:
                del os.environ["HOME"]
    else:
        yield
