"""Private scratch folders that do not pile up, even after kill -9."""

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
LONGEST_SOCKET = 100  # bytes; the kernel takes 107 for a Unix socket's path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder readable by this user alone, removed on leaving; those of dead runs are removed on entering.

    Temporary files belong below one: files beside it are never removed after a kill.
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
    """The user's temporary folder, or where a socket's path would be too long in it, /tmp."""
    usual = Path(tempfile.gettempdir())
    socket = usual / f"{PREFIX}12345678" / "ranks.sock"
    return usual if len(os.fsencode(socket)) <= LONGEST_SOCKET else Path("/tmp")  # noqa: S108 - the folder is private


def _sweep(parent: Path) -> None:
    """A live run holds its lock; the kernel lets go of it whatever ends the run."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
