"""Maps OSErrors of files that Kitestring reads or writes to its own errors."""

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
    """Return the leaf of the error tree for an OSError, with the path and the remedy. `to`: the attempted operation.

    A full disk is Permanent: space does not free up within the seconds of a retry, and a second
    attempt would encode the same rows in vain.
    """
    if error.errno in _FULL:
        return Permanent(f"no room left on the disk of {path}: free some or choose another folder, then run again")
    if error.errno in _REFUSED:
        return BadInput(f"{path}: {_reason(error)}: let this user {to} there, or choose another folder")
    if error.errno in _PASSING:
        return Transient(f"{path}: {_reason(error)}")
    return Permanent(f"{path}: {_reason(error)}")


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Translate OSErrors of the block to errors that name this path."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, path) from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
