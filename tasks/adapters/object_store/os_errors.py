"""What the operating system's refusals mean for a file that Kitestring writes or reads."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_PASSING = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN}


def disk_error(error: OSError, path: Path | str, *, to: str = "write") -> KitestringError:
    """The leaf of the error tree that an OSError is, with the path and the cure. `to`: what was tried.

    A full disk is Permanent: room does not come back in the seconds that a retry waits, and a second
    try would encode the same rows for nothing.
    """
    if error.errno in _FULL:
        return Permanent(f"no room left on the disk of {path}: free some or choose another folder, then run again")
    if error.errno in _REFUSED:
        return BadInput(f"{path}: {_words(error)}: let this user {to} there, or choose another folder")
    if error.errno in _PASSING:
        return Transient(f"{path}: {_words(error)}")
    return Permanent(f"{path}: {_words(error)}")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """What the operating system refuses within is about this path."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
