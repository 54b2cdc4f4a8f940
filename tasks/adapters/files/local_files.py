"""Files of this machine."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from tasks.adapters.files.globs import make_pattern, split_pattern
from tasks.adapters.files.left_out import LeftOut
from tasks.adapters.files.walk import Entry, walk
from tasks.domain.errors import BadInput
from tasks.domain.job.references import SCHEME
from tasks.domain.shards.shard import FileVersion


class LocalDrive:
    """Plain paths, and file:// URIs. A file's version is its modification time in nanoseconds."""

    def files(self, uri: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
        path = local_path(uri)
        # A name that has brackets and is there is meant as it stands.
        root, parts = (path, []) if os.path.lexists(path) else split_pattern(path)
        root = root or "/"
        if os.path.isfile(root) and not parts:  # noqa: PTH113 - paths stay strings: a listing can hold millions
            yield _version(root, os.path.basename(root))  # noqa: PTH119
            return
        if not os.path.isdir(root):  # noqa: PTH112
            raise BadInput(_not_there(root))
        for name, entry in walk(root, make_pattern(parts, suffixes), FolderLister(left_out), left_out):
            yield _version(entry.path, name)

    def versions(self, files: Iterable[FileVersion]) -> Iterator[tuple[FileVersion, FileVersion | None]]:
        for file in files:
            try:
                yield file, _version(file.path, file.name)
            except BadInput:
                yield file, None

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(local_path(path), "rb")


class FolderLister:
    """Lists folders, and does not follow a link into a folder that it came from."""

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out

    def __call__(self, folder: str) -> list[Entry]:
        try:
            with os.scandir(folder) as found:
                return [entry for e in found if (entry := self._entry(e)) is not None]
        except PermissionError as error:
            raise BadInput(f"folder '{folder}' may not be read: give this user the right to list it") from error

    def _entry(self, found: os.DirEntry[str]) -> Entry | None:
        reason = _not_listed(found)
        if reason:
            self._left_out.add(reason, os.fsencode(found.path).decode(errors="replace"))
            return None
        return Entry(name=found.name, path=found.path, folder=found.is_dir())


def is_local(uri: str) -> bool:
    """Whether a path or URI is of this machine."""
    scheme = SCHEME.match(uri)
    return scheme is None or scheme[1] == "file"


def local_path(uri: str) -> str:
    """An absolute path, with ~ spelled out."""
    plain = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
    return os.path.abspath(os.path.expanduser(plain))  # noqa: PTH100, PTH111


def _not_listed(found: os.DirEntry[str]) -> str:
    """Why something in a folder is neither a folder nor a file of the source; empty: it is one."""
    try:
        found.name.encode()
    except UnicodeEncodeError:
        return "with a name that is not UTF-8 (rename them)"
    if found.is_dir():
        return "a link to a folder above it" if found.is_symlink() and _leads_up(Path(found.path)) else ""
    if found.is_file():
        return ""
    return "a link to nothing" if found.is_symlink() else "a pipe, socket or device"


def _leads_up(link: Path) -> bool:
    """Whether a link goes to a folder that it is in, wherever the walk began: that may be a link itself."""
    folder = link.parent.resolve()
    return link.resolve() in (folder, *folder.parents)


def _version(path: str, name: str) -> FileVersion:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise BadInput(f"'{path}' cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"'{path}' is not a file")
    return FileVersion(path=path, name=name, size=found.st_size, version=str(found.st_mtime_ns))


def _not_there(path: str) -> str:
    folder, name = os.path.split(path)
    beside = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH208, PTH112
    near = difflib.get_close_matches(name, beside, n=1)
    hint = f" (did you mean '{os.path.join(folder, near[0])}'?)" if near else ""  # noqa: PTH118
    return f"no such file or folder: '{path}'{hint}: correct source.uri"
