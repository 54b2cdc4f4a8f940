"""Device locks: one encoder at a time on a device of this host, whichever process dies.

A device has a lock file, and a run that encodes on it holds a kernel lock (flock) on that file. The lock belongs to an open
file that a run shares with the guard of its ranks: the kernel releases it when both are gone, so never while a
rank may still be running, and always afterwards, however they ended. Runs in separate containers see each other's locks
only if the lock folder is mounted into both.
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

FOLDERS = (Path("/run/lock"), Path("/tmp"))  # noqa: S108  must be the same for every user and every TMPDIR
LOCK_POLL_SECONDS = 0.5
WITHOUT = "set compute.exclusive to false"


class Devices:
    """The devices that a run encodes on. Without names, no device is locked and other runs may use them as well."""

    def __init__(self, names: Sequence[str] = (), *, corpus: str = "", folders: Sequence[Path] = FOLDERS) -> None:
        self._names = sorted(names)  # all runs lock in the same order, so that there is no deadlock
        self._corpus, self._folders = corpus, folders
        self.fds: tuple[int, ...] = ()

    def take(self, waiting: Callable[[str], None], over: Callable[[], bool]) -> bool:
        """Wait for every device and lock it; returns at once if this run holds the locks already.

        Args:
            waiting: receives a text that names the device and its holder, and "" when no longer waiting.
            over: returns whether the devices are no longer needed.

        Returns:
            False if the devices were no longer needed.

        Raises:
            BadInput: a lock file cannot be opened or locked; names it and the remedy.
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
        """Release the locks; a guard that still has ranks keeps them until those have ended."""
        files, self.fds = self.fds, ()
        for file in files:
            _note(file, "")  # the next holder may lack the permission to overwrite this name
            os.close(file)

    def _open(self, name: str) -> int:
        folder = next((folder for folder in self._folders if os.access(folder, os.W_OK)), None)
        if folder is None:
            raise BadInput(
                f"no lock file can be created in {' or '.join(map(str, self._folders))}: grant this user write access, or {WITHOUT}"
            )
        path = folder / f"kitestring-{name}.lock"
        try:
            return _opened(path)
        except OSError as error:  # a link, a folder, or another user's private file
            reason = (error.strerror or str(error)).lower()
            raise BadInput(f"the device lock {path} cannot be opened ({reason}): remove it, or {WITHOUT}") from error


def _opened(path: Path) -> int:
    """Open the lock file, for writing if permitted; a file opened read-only can be locked as well."""
    with suppress(PermissionError):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if os.fstat(file).st_uid == os.getuid():
            os.fchmod(file, 0o666)  # regardless of the umask: other users must be able to lock it
        return file
    with suppress(PermissionError):  # another user's file: in a sticky folder O_CREAT is refused, but writing may be permitted
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
    """Record the holder of the lock. Optional: the file may be another user's and read-only, or the disk full."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, holder.encode(), 0)


def _holder(file: int) -> str:
    try:
        holder = json.loads(os.pread(file, 4096, 0))
        return f"process {int(holder['pid'])} has it for corpus '{holder['corpus']}'"
    except (ValueError, KeyError, TypeError):  # the holder has not recorded itself yet
        return "another run has it"
