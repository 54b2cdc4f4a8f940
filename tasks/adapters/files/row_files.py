"""Reads files that rows name (images) into memory."""

from __future__ import annotations

import os
import stat

from tasks.adapters.files.access import open_file
from tasks.adapters.files.local_files import local_path
from tasks.adapters.files.web_files import fetch
from tasks.domain.errors import BadInput
from tasks.domain.job.references import KERNEL, SCHEME, WEB, References

LARGEST_FILE = 256 << 20  # bytes; a larger one is not read into memory


def read_file(location: str, references: References | None) -> bytes:
    """Read a file.

    Args:
        location: an absolute path or a URI, from `References.resolve`.
        references: the locations that rows may name; None: the user named the file.

    Raises:
        BadInput: it is not a file, is too large, or its location is not permitted.
        FileNotFoundError, OSError: it does not exist, or cannot be read.
        Transient: its store does not respond.
    """
    scheme = SCHEME.match(location)
    if references is not None and scheme and scheme[1].lower() in WEB:
        return fetch(location, references, most=LARGEST_FILE)
    if not scheme or scheme[1].lower() == "file":
        _check_plain(local_path(location))
    with open_file(location) as file:
        data = bytes(file.read(LARGEST_FILE + 1))
    if len(data) > LARGEST_FILE:
        raise BadInput(f"'{location}' has more than {LARGEST_FILE} bytes")
    return data


def _check_plain(path: str) -> None:
    """Refuse devices and pipes, which block or never end, and the kernel's pseudo files, which belong to no corpus."""
    status = os.stat(path)  # noqa: PTH116 - paths stay strings
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"'{path}' is not a file")
    if os.path.realpath(path).startswith(KERNEL):
        raise BadInput(f"'{path}' is not a file but part of the system")
