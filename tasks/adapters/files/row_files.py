"""Files that rows name, read whole: pictures."""

from __future__ import annotations

import os
import stat

from tasks.adapters.files.access import open_file
from tasks.adapters.files.local_files import local_path
from tasks.adapters.files.web_files import fetch
from tasks.domain.errors import BadInput
from tasks.domain.job.references import KERNEL, SCHEME, WEB, References

LARGEST_FILE = 256 << 20  # bytes; a larger one is not read into memory


def read_file(place: str, references: References | None) -> bytes:
    """The bytes of a file.

    Args:
        place: an absolute path or a URI, as `References.resolve` gives it.
        references: what rows may name; None: the user names the file.

    Raises:
        BadInput: it is no file, is too large, or may not be read.
        FileNotFoundError, OSError: it is not there, or cannot be read.
        Transient: its store does not answer.
    """
    scheme = SCHEME.match(place)
    if references is not None and scheme and scheme[1].lower() in WEB:
        return fetch(place, references, most=LARGEST_FILE)
    if not scheme or scheme[1].lower() == "file":
        _check_plain(local_path(place))
    with open_file(place) as file:
        data = bytes(file.read(LARGEST_FILE + 1))
    if len(data) > LARGEST_FILE:
        raise BadInput(f"'{place}' has more than {LARGEST_FILE} bytes")
    return data


def _check_plain(path: str) -> None:
    """Devices and pipes never end or block; the kernel's pseudo files belong to no corpus."""
    found = os.stat(path)  # noqa: PTH116 - paths stay strings
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"'{path}' is not a file")
    if os.path.realpath(path).startswith(KERNEL):
        raise BadInput(f"'{path}' is not a file but part of the system")
