"""Local files."""

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
        # An existing name with brackets is a name, not a pattern.
        root, parts = (path, []) if os.path.lexists(path) else split_pattern(path)
        root = root or "/"
        if os.path.isfile(root) and not parts:  # noqa: PTH113 - paths stay strings: a listing can hold millions
            yield _version(root, os.path.basename(root))  # noqa: PTH119
            return
        if not os.path.isdir(root):  # noqa: PTH112
            raise BadInput(_missing_message(root))
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
    """Lists folders without following links to a parent folder."""

    def __init__(self, left_out: LeftOut) -> None:
        self._left_out = left_out

    def __call__(self, folder: str) -> list[Entry]:
        try:
            with os.scandir(folder) as entries:
                return [entry for listed in entries if (entry := self._entry(listed)) is not None]
        except PermissionError as error:
            raise BadInput(f"folder '{folder}' may not be read: give this user the right to list it") from error

    def _entry(self, listed: os.DirEntry[str]) -> Entry | None:
        reason = _not_listed(listed)
        if reason:
            self._left_out.add(reason, os.fsencode(listed.path).decode(errors="replace"))
            return None
        return Entry(name=listed.name, path=listed.path, folder=listed.is_dir())


def is_local(uri: str) -> bool:
    """Return whether a path or URI is local."""
    scheme = SCHEME.match(uri)
    return scheme is None or scheme[1] == "file"


def local_path(uri: str) -> str:
    """Return an absolute path, with ~ expanded."""
    plain = unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri
    return os.path.abspath(os.path.expanduser(plain))  # noqa: PTH100, PTH111


def _not_listed(listed: os.DirEntry[str]) -> str:
    """Return why a folder's entry is neither a folder nor a file of the source; empty if it is one."""
    try:
        listed.name.encode()
    except UnicodeEncodeError:
        return "with a name that is not UTF-8 (rename them)"
    if listed.is_dir():
        return "a link to a folder above it" if listed.is_symlink() and _points_up(Path(listed.path)) else ""
    if listed.is_file():
        return ""
    return "a link to nothing" if listed.is_symlink() else "a pipe, socket or device"


def _points_up(link: Path) -> bool:
    """Return whether a link points to one of its parent folders, wherever the walk began: that may be a link itself."""
    folder = link.parent.resolve()
    return link.resolve() in (folder, *folder.parents)


def _version(path: str, name: str) -> FileVersion:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise BadInput(f"'{path}' cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"'{path}' is not a file")
    return FileVersion(path=path, name=name, size=status.st_size, version=str(status.st_mtime_ns))


def _missing_message(path: str) -> str:
    folder, name = os.path.split(path)
    siblings = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH208, PTH112
    near = difflib.get_close_matches(name, siblings, n=1)
    hint = f" (did you mean '{os.path.join(folder, near[0])}'?)" if near else ""  # noqa: PTH118
    return f"no such file or folder: '{path}'{hint}: correct source.uri"
