"""A store in a folder, on a disk or a shared file system.

Objects appear atomically: the data goes to a private file in the same folder, is flushed to disk (fsync),
and is then renamed (`write`) or hard-linked (`commit`: link(2) fails if the name exists, so exactly
one of any number of racing links wins).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.adapters.object_store.key_rules import TEMPORARY, checked, is_key
from tasks.adapters.object_store.os_errors import disk_error
from tasks.domain.errors import BadInput
from tasks.domain.ports import StoredObject

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

if TYPE_CHECKING:
    _File = tempfile._TemporaryFileWrapper[bytes]  # noqa: SLF001 - the only name that the type has


class FolderStore:
    """A `Store` below `root`, which the first write creates.

    Files get the root folder's read and write bits, so its mode decides who can read the checkpoint.
    Errors are those of `tasks.adapters.object_store.os_errors`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self.url = str(self._root)

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            return path.read_bytes()
        except _ABSENT:
            return None
        except OSError as error:
            raise disk_error(error, path, to="read") from error

    def write(self, key: str, data: bytes | Path) -> None:
        path = self._path(key)
        with self._unfinished(path, data) as name:
            Path(name).replace(path)
            _sync_folder(path.parent)

    def commit(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        with self._unfinished(path, data) as name:
            ours = _link(name, path)
            _sync_folder(path.parent)  # also if another writer won: the caller relies on its object
        return ours

    def list(self, prefix: str) -> Iterator[StoredObject]:
        folder = prefix.rpartition("/")[0]
        if folder:
            checked(folder)
        for key, entry in _walk(self._root / folder, f"{folder}/" if folder else ""):
            if key.startswith(prefix):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    status = entry.stat(follow_symlinks=False)
                    yield StoredObject(key=key, size=status.st_size, modified=status.st_mtime)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink()
        except _ABSENT:
            return
        except OSError as error:
            raise disk_error(error, path) from error
        for folder in path.relative_to(self._root).parents[:-1]:
            try:
                (self._root / folder).rmdir()
            except OSError:  # holds other objects
                return

    def delete_many(self, keys: Iterable[str]) -> None:
        for key in [checked(key) for key in keys]:
            self.delete(key)

    def unfinished(self, prefix: str) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the unfinished private files below a folder: their process is still writing, or was killed."""
        for folder, _, names in os.walk(self._root / checked(prefix.rstrip("/"))):
            for name in names:
                if name.startswith(TEMPORARY):
                    with suppress(FileNotFoundError):  # finished meanwhile
                        path = Path(folder, name)
                        yield path, path.lstat()

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    @contextmanager
    def _unfinished(self, path: Path, data: bytes | Path) -> Iterator[str]:
        """Yield the name of a private file beside `path` with the data flushed to disk; the file is removed afterwards."""
        try:
            with _private_file(path.parent) as file:
                _fill(file, data)
                os.fchmod(file.fileno(), self._root.stat().st_mode & 0o666)
                os.fsync(file.fileno())
                yield file.name
        except OSError as error:
            raise disk_error(error, path) from error


@contextmanager
def _private_file(folder: Path) -> Iterator[_File]:
    file = _open_private(folder)
    try:
        with file:
            yield file
    finally:
        Path(file.name).unlink(missing_ok=True)


def _open_private(folder: Path) -> _File:
    for _ in range(100):  # a concurrent delete may remove the empty folder between the two steps
        _make_folder(folder)
        with suppress(FileNotFoundError):
            return tempfile.NamedTemporaryFile(dir=folder, prefix=TEMPORARY, delete=False)
    raise FileNotFoundError(errno.ENOENT, "the folder is removed again and again", str(folder))


def _fill(file: _File, data: bytes | Path) -> None:
    if isinstance(data, Path):
        with data.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
    else:
        file.write(data)
    file.flush()


def _link(name: str, path: Path) -> bool:
    """Link the file to its path unless that exists. Returns whether this file is there."""
    try:
        os.link(name, path)
    except FileExistsError:
        # over NFS a link can succeed and its reply be lost: the link count shows it
        return Path(name).stat().st_nlink == 2
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise BadInput(
                f"{path.parent}: this file system has no hard links, so two runs could both seal: use another folder, or S3"
            ) from error
        raise
    return True


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, each flushed to disk before it is filled."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems lack this call and do not need it
            raise
    finally:
        os.close(descriptor)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield key and entry of each finished file below a folder. Links are not followed: they could lead outside."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                key = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(folder / entry.name, f"{key}/")
                elif entry.is_file(follow_symlinks=False) and is_key(key):
                    yield key, entry
    except _ABSENT:
        return
    except OSError as error:
        raise disk_error(error, folder, to="read") from error
