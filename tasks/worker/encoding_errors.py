"""Errors of encoding a batch, classified by how a rank must react; formatting of errors in one line."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Fatal(Exception):
    """The device or a helper process is broken: this process must exit, whatever the rows."""


class OutOfMemory(Exception):
    """A batch did not fit into the device's memory."""


def first_line(error: BaseException) -> str:
    """Format an error as one line without terminal escapes and memory addresses, so that equal errors give equal lines."""
    lines = [line.strip() for line in _ADDRESS.sub("", _COLOURS.sub("", str(error))).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]
