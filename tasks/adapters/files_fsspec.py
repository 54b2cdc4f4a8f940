"""Files behind any other URI that fsspec knows: gs://, az://, hdfs://, http:// and so on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import fsspec
import pyarrow as pa

from tasks.adapters.files_walk import Entry, walk
from tasks.adapters.patterns import make_pattern, split_pattern
from tasks.domain.errors import BadInput, KitestringError, Transient
from tasks.domain.shard import FileVersion

VERSIONS = ("ETag", "etag", "md5", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "modified", "updated", "created")


class FsspecDrive:
    """Whatever fsspec has a package for. A version is the ETag, a checksum or a time, what the store tells first."""

    def files(self, uri: str, suffixes: tuple[str, ...]) -> Iterator[FileVersion]:
        system, path = _system(uri)
        try:
            yield from _files(system, uri, path, suffixes)
        except (OSError, ValueError) as error:
            raise _told(uri, error) from error

    def versions(self, files: Iterable[FileVersion]) -> Iterator[tuple[FileVersion, FileVersion | None]]:
        for file in files:
            system, path = _system(file.path)
            try:
                yield file, _version(system, system.info(path), file.name)
            except FileNotFoundError:
                yield file, None
            except OSError as error:
                raise _told(file.path, error) from error

    def open(self, path: str) -> pa.NativeFile:
        system, inner = _system(path)
        return pa.PythonFile(system.open(inner, "rb"), mode="r")


def _files(system: Any, uri: str, path: str, suffixes: tuple[str, ...]) -> Iterator[FileVersion]:
    root, parts = (path, []) if "http" in uri[:4] or system.exists(path) else split_pattern(path)
    if not parts and system.isfile(root):
        yield _version(system, system.info(root), root.rstrip("/").rsplit("/", 1)[-1])
        return
    if not system.isdir(root):
        raise BadInput(f"no such file or folder: '{uri}': set source.uri to what is there")
    infos: dict[str, dict[str, Any]] = {}

    def entries(folder: str) -> list[Entry]:
        found = {info["name"].rstrip("/"): info for info in system.ls(folder, detail=True)}
        infos.update((name, info) for name, info in found.items() if info["type"] == "file")
        return [Entry(name=name.rsplit("/", 1)[-1], path=name, folder=info["type"] == "directory") for name, info in found.items()]

    for name, entry in walk(root, make_pattern(parts, suffixes), entries):
        yield _version(system, infos.pop(entry.path), name)


def _version(system: Any, info: dict[str, Any], name: str) -> FileVersion:
    version = next((info[key] for key in VERSIONS if info.get(key)), "")
    version = str(version.timestamp() if isinstance(version, datetime) else version)  # listings and stats tell times differently
    return FileVersion(path=system.unstrip_protocol(info["name"]), name=name, size=int(info.get("size") or 0), version=version)


def _system(uri: str) -> tuple[Any, str]:
    try:
        system, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise BadInput(f"'{uri}' needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise BadInput(f"'{uri}' cannot be opened: {error}") from error
    return system, str(path)


def _told(uri: str, error: Exception) -> KitestringError:
    if isinstance(error, FileNotFoundError):
        return BadInput(f"no such file or folder: '{uri}': set source.uri to what is there")
    if isinstance(error, PermissionError):
        return BadInput(f"'{uri}' may not be read: check the credentials for it")
    return Transient(f"'{uri}' could not be listed: {' '.join(str(error).split())[:300]}")
