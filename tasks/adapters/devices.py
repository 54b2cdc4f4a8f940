"""One encoder at a time on a device of this host, whatever dies.

A device has a lock file, and who encodes on it holds a kernel lock (flock) on that file. The lock belongs to an open
file that a run shares with the guard of its ranks: the kernel lets go of it when both are gone, so never while a
rank may still be at work, and always after, whatever killed them. Runs in containers of their own see each other
only where the folder of the locks is mounted into both.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108  the same for every user and every TMPDIR, or it locks nothing
LOOK_SECONDS = 0.5


class Devices:
    """The devices that a run encodes on; none: whoever wants may encode there as well."""

    def __init__(self, names: Sequence[str] = (), *, corpus: str = "", folders: Sequence[Path] = FOLDERS) -> None:
        self._names, self._corpus, self._folders = (
            sorted(names),
            corpus,
            folders,
        )  # in one order for all, so that none waits for a waiting one
        self.fds: tuple[int, ...] = ()

    def take(self, waiting: Callable[[str], None], over: Callable[[], bool]) -> bool:
        """Wait for every device, and hold it; at once where they are held already.

        Args:
            waiting: told what is waited for, and "" at the end of it.
            over: whether nobody wants them any more.

        Returns:
            False where that was so.
        """
        for name in self._names[len(self.fds) :]:
            file = self._open(name)
            while not _locked(file):
                if over():
                    os.close(file)
                    return False
                waiting(f"the encoder on {name}: {_holder(file)}")
                time.sleep(LOOK_SECONDS)
            self.fds = (*self.fds, file)
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps({"pid": os.getpid(), "corpus": self._corpus}).encode(), 0)
        waiting("")
        return True

    def release(self) -> None:
        """Let go of them; a guard that still has ranks keeps them until those are gone."""
        files, self.fds = self.fds, ()
        for file in files:
            os.close(file)

    def _open(self, name: str) -> int:
        folder = next(folder for folder in self._folders if os.access(folder, os.W_OK))
        path = folder / f"kitestring-{name}.lock"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except PermissionError:  # another user's: sticky folders do not let it be created anew, but it can be locked
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        if os.fstat(file).st_uid == os.getuid():
            os.fchmod(file, 0o666)  # whatever the umask: other users have to be able to lock it
        return file


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: int) -> str:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return f"process {int(holder['pid'])} has it for corpus '{holder['corpus']}'"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not said so yet
        return "another run has it"
