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
from contextlib import suppress
from pathlib import Path

from tasks.domain.errors import BadInput

FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108  the same for every user and every TMPDIR, or it locks nothing
LOCK_POLL_SECONDS = 0.5
WITHOUT = "set compute.exclusive to false"


class Devices:
    """The devices that a run encodes on; none: other runs may encode there as well."""

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
            waiting: receives the name of the device waited for, and "" when it is no longer waiting.
            over: whether they are no longer needed.

        Returns:
            False where that was so.

        Raises:
            BadInput: a lock file cannot be opened or locked; names it and the cure.
        """
        for name in self._names[len(self.fds) :]:
            file = self._open(name)
            while not _locked(file):
                if over():
                    os.close(file)
                    return False
                waiting(f"the encoder on {name}: {_holder(file)}")
                time.sleep(LOCK_POLL_SECONDS)
            self.fds = (*self.fds, file)
            _note(file, json.dumps({"pid": os.getpid(), "corpus": self._corpus}))
        waiting("")
        return True

    def release(self) -> None:
        """Release them; a guard that still has ranks keeps them until those have ended."""
        files, self.fds = self.fds, ()
        for file in files:
            _note(file, "")  # who takes it next may not be able to write its own name over this one's
            os.close(file)

    def _open(self, name: str) -> int:
        folder = next((folder for folder in self._folders if os.access(folder, os.W_OK)), None)
        if folder is None:
            raise BadInput(f"no lock file can be made in {' or '.join(map(str, self._folders))}: let this user write there, or {WITHOUT}")
        path = folder / f"kitestring-{name}.lock"
        try:
            return _opened(path)
        except OSError as error:  # a link, a folder, a file that is another user's alone
            reason = (error.strerror or str(error)).lower()
            raise BadInput(f"the device lock {path} cannot be opened ({reason}): remove it, or {WITHOUT}") from error


def _opened(path: Path) -> int:
    """The lock file, for writing where that is allowed: an open file that can only be read can be locked as well."""
    with suppress(PermissionError):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if os.fstat(file).st_uid == os.getuid():
            os.fchmod(file, 0o666)  # whatever the umask: other users have to be able to lock it
        return file
    with suppress(PermissionError):  # another user's: sticky folders do not let it be created anew, but it may be written
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        raise BadInput(f"a device lock cannot be taken ({(error.strerror or str(error)).lower()}): {WITHOUT}") from error
    return True


def _note(file: int, holder: str) -> None:
    """Record the holder of the lock. The lock holds as well where the file is another user's and cannot be written, or its disk is full."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode(), 0)


def _holder(file: int) -> str:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return f"process {int(holder['pid'])} has it for corpus '{holder['corpus']}'"
    except (ValueError, KeyError, TypeError):  # it has the lock and has not said so yet
        return "another run has it"
