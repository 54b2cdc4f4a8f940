"""Errors of encoding a batch, classified by what a rank may do next; and an error in one line."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Fatal(Exception):
    """The device or a helper process is broken: this process cannot go on, whatever the rows."""


class OutOfMemory(Exception):
    """A batch did not fit into the device's memory."""


def first_line(error: BaseException) -> str:
    """An error in one line, without terminal escapes and memory addresses: the same error gives the same line."""
    lines = [line.strip() for line in _ADDRESS.sub("", _COLOURS.sub("", str(error))).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:500]
