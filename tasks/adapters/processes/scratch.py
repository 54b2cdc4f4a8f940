"""Private scratch folders that are cleaned up even after kill -9."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "kitestring-"
LOCK = "in-use"
LONGEST_SOCKET = 100  # bytes; the kernel allows 107 for the path of a Unix socket


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder readable by this user only, removed on exit; on entry, folders of dead runs are removed.

    Put all temporary files below it: files elsewhere are never removed after a kill.
    """
    parent = _parent()
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    with (folder / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "new").rename(folder / LOCK)  # a sweep never sees the lock file unlocked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _parent() -> Path:
    """The user's temporary folder, or /tmp if a socket's path would be too long there."""
    usual = Path(tempfile.gettempdir())
    socket = usual / f"{PREFIX}12345678" / "ranks.sock"
    return usual if len(os.fsencode(socket)) <= LONGEST_SOCKET else Path("/tmp")  # noqa: S108 - the folder is private


def _sweep(parent: Path) -> None:
    """Remove the folders of dead runs. A live run holds its folder's lock; the kernel releases it however the run ends."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
