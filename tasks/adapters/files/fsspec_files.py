"""Files of all other URIs that fsspec supports: gs://, az://, hdfs://, http:// and so on."""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPException
from typing import Any

import fsspec
import pyarrow as pa

from tasks.adapters.files.globs import make_pattern, split_pattern
from tasks.adapters.files.left_out import LeftOut
from tasks.adapters.files.walk import Entry, walk
from tasks.domain.errors import BadInput, KitestringError, Transient
from tasks.domain.shards.shard import FileVersion

VERSIONS = ("ETag", "etag", "md5", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "modified", "updated", "created")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # terminal colours in errors of Rust libraries


class FsspecDrive:
    """A store of any fsspec package. A file's version is its ETag, a checksum or a time: the first that the store reports."""

    def files(self, uri: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
        try:
            system, path = _system(uri)
        except BadInput as error:
            raise BadInput(f"source.uri: {error}") from error
        try:
            yield from _files(system, uri, path, suffixes, left_out)
        except Exception as error:
            if isinstance(error, OSError | ValueError) or _is_transient(error):
                raise _listing_error(uri, error) from error
            raise

    def versions(self, files: Iterable[FileVersion]) -> Iterator[tuple[FileVersion, FileVersion | None]]:
        for file in files:
            system, path = _system(file.path)
            try:
                system.invalidate_cache()
                info = _info(system, path)
            except Exception as error:
                if isinstance(error, OSError) or _is_transient(error):
                    raise _listing_error(file.path, error) from error
                raise
            yield file, _version(system, info, file.name) if info else None

    def open(self, path: str) -> pa.NativeFile:
        system, inner = _system(path)
        with _translated_errors(path):
            return pa.PythonFile(_RemoteFile(system.open(inner, "rb"), path), mode="r")


class _RemoteFile:
    """An open file that raises Transient if the store does not respond: an OSError of Arrow, in the same stack, means damage."""

    def __init__(self, file: Any, path: str) -> None:
        self._file, self._path = file, path

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def read(self, size: int = -1) -> bytes:
        with _translated_errors(self._path):
            return bytes(self._file.read(size))

    def seek(self, offset: int, whence: int = 0) -> int:
        with _translated_errors(self._path):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()


@contextmanager
def _translated_errors(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if _is_transient(error):
            raise Transient(f"{path} could not be read: {first_words(error)}") from error
        raise


def _is_transient(error: Exception) -> bool:
    """Return whether it is an error of the connection. Packages have their own errors: those of aiohttp and gcsfs are not OSErrors."""
    if isinstance(error, FileNotFoundError):  # fsspec raises it for any failed web request
        cause = error.__cause__
        return isinstance(cause, Exception) and _is_transient(cause) and (isinstance(cause, OSError) or _is_of(cause, {"aiohttp"}))
    if isinstance(error, OSError | HTTPException):
        return not isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
    return not _is_of(error, sys.stdlib_module_names) and not isinstance(error, KitestringError | ValueError)


def _is_of(error: Exception, packages: Container[str]) -> bool:
    return type(error).__module__.partition(".")[0] in packages


def first_words(error: BaseException) -> str:
    """Return an error's message in one line, or its class if it has none."""
    return " ".join(_COLOURS.sub("", str(error)).split())[:300].rstrip(".") or type(error).__name__


def _files(system: Any, uri: str, path: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
    info = _info(system, path)
    root, parts = (path, []) if "http" in uri[:4] or info else split_pattern(path)
    if not parts and info and info["type"] == "file":
        yield _version(system, info, root.rstrip("/").rsplit("/", 1)[-1])
        return
    info = _info(system, root) if parts else info
    if info is None or info["type"] != "directory":
        raise BadInput(f"no such file or folder: '{uri}': correct source.uri")
    system.invalidate_cache()  # packages cache listings for the life of the process
    infos: dict[str, dict[str, Any]] = {}

    def entries(folder: str) -> list[Entry]:
        listed = {info["name"].rstrip("/"): info for info in system.ls(folder, detail=True)}
        infos.update((name, info) for name, info in listed.items() if info["type"] == "file")
        return [Entry(name=name.rsplit("/", 1)[-1], path=name, folder=info["type"] == "directory") for name, info in listed.items()]

    for name, entry in walk(root, make_pattern(parts, suffixes), entries, left_out):
        yield _version(system, infos.pop(entry.path), name)


def _info(system: Any, path: str) -> dict[str, Any] | None:
    """Return the object's info; None if it does not exist. fsspec's exists() and isdir() also return False for an unreachable store."""
    try:
        info: dict[str, Any] = system.info(path)
    except FileNotFoundError as error:
        if _is_transient(error):
            raise
        return None
    return info


def _version(system: Any, info: dict[str, Any], name: str) -> FileVersion:
    version = next((info[key] for key in VERSIONS if info.get(key)), "")
    version = str(version.timestamp() if isinstance(version, datetime) else version)  # listings and stats return times in different forms
    return FileVersion(path=system.unstrip_protocol(info["name"]), name=name, size=int(info.get("size") or 0), version=version)


def _system(uri: str) -> tuple[Any, str]:
    try:
        system, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise BadInput(f"'{uri}' needs a package that is not installed: {error}") from error
    except ValueError as error:
        scheme = uri.partition("://")[0]
        unknown = (
            f"there is no scheme '{scheme}': use a path, s3://, https:// or another of fsspec's" if "not known" in str(error) else error
        )
        raise BadInput(f"'{uri}' cannot be opened: {unknown}") from error
    return system, str(path)


def _listing_error(uri: str, error: Exception) -> KitestringError:
    if isinstance(error, FileNotFoundError) and not _is_transient(error):
        return BadInput(f"no such file or folder: '{uri}': correct source.uri")
    if isinstance(error, PermissionError):
        return BadInput(f"'{uri}' may not be read: check the credentials for it")
    return Transient(f"'{uri}' could not be listed: {first_words(error)}")
