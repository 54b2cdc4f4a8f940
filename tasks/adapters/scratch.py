"""Private scratch folders that do not pile up, even after kill -9."""

from __future__ import annotations

import fcntl
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
    """A folder readable by this user alone, removed on leaving; those of dead runs are removed on entering."""
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if len(str(folder / "ranks.sock")) > LONGEST_SOCKET:
        shutil.rmtree(folder)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    with (folder / "new").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "new").rename(folder / LOCK)  # a sweep never sees the lock file unlocked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """A live run holds its lock; the kernel lets go of it whatever ends the run."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
