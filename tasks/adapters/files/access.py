"""Lists files of any location in a fixed order, opens them, and checks them against their planned version.

A file's path is an absolute local path or a URI. Folders are searched recursively, in the
order in which S3 sorts names; names that start with '.' or '_' are skipped. Listings stream.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, islice
from typing import Protocol, TypeVar

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.braces import expand_braces, fixed_folder, has_braces
from tasks.adapters.files.compression import CONTENT_HEAD_BYTES, codec_of, kind_of, packing_of, unpacking
from tasks.adapters.files.fsspec_files import FsspecDrive, first_words
from tasks.adapters.files.globs import split_pattern
from tasks.adapters.files.left_out import LeftOut
from tasks.adapters.files.local_files import LocalDrive, is_local, local_path
from tasks.adapters.files.s3_files import S3Drive, split_uri
from tasks.domain.errors import BadInput, KitestringError, Permanent, Transient
from tasks.domain.job.references import SCHEME
from tasks.domain.shards.shard import FileVersion
from tasks.domain.shards.unread_files import format_unread

T = TypeVar("T")
DENIED = {"ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH"}


class Drive(Protocol):
    """Access to the files of one kind of location."""

    def files(self, uri: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
        """Yield the files of a path, folder or glob, sorted; maybe none if the location exists. Other files are counted in `left_out`."""

    def versions(self, files: Iterable[FileVersion]) -> Iterator[tuple[FileVersion, FileVersion | None]]:
        """Yield each planned file with its current state, None if it is gone."""

    def open(self, path: str) -> pa.NativeFile:
        """Open for reading, with seek; fetches nothing before the first read."""


def drive_of(uri: str) -> Drive:
    """Return the drive for a path or URI."""
    if is_local(uri):
        return LocalDrive()
    scheme = SCHEME.match(uri)
    return S3Drive() if scheme and scheme[1] in {"s3", "s3a"} else FsspecDrive()


class NothingToRead(BadInput):
    """No file at a location has a wanted suffix."""


def list_files(uri: str, suffixes: tuple[str, ...], left_out: LeftOut | None = None) -> Iterator[FileVersion]:
    """Yield every file of a source, sorted, at least one.

    Args:
        uri: a file (of any name), a folder, a glob, or a list in braces of files or folders that must all exist.
        suffixes: lower case; required of a folder's files, and of those of a glob that ends in `*`.
        left_out: counts files that are not read.

    Raises:
        BadInput: there is no file, or no permission to read it; says what to change.
    """
    counts = left_out or LeftOut()
    files = _listed(uri, suffixes, counts) if _is_list(uri) else drive_of(uri).files(uri, suffixes, counts)
    first = next(files, None)
    if first is None:
        unread = counts.files()
        skipped = f"; {format_unread(unread)}" if unread else ""
        raise NothingToRead(f"nothing to read in '{uri}': no file matches (wanted: {format_suffixes(suffixes)}){skipped}")
    return chain([first], files)


def format_suffixes(suffixes: Sequence[str]) -> str:
    """List suffixes for a message; compressed forms are summarized as 'or compressed'."""
    plain = [suffix for suffix in suffixes if suffix.count(".") == 1]
    return ", ".join(plain or suffixes) + (", or compressed" if 0 < len(plain) < len(suffixes) else "")


def _is_list(uri: str) -> bool:
    """Return whether braces denote a list: a local file may have them in its name."""
    return has_braces(uri) and not (is_local(uri) and os.path.lexists(local_path(uri)))


def _listed(uri: str, suffixes: tuple[str, ...], left_out: LeftOut) -> Iterator[FileVersion]:
    """Yield the files of a list in braces, named relative to the folder before the first brace; looks up many concurrently."""
    drive = drive_of(uri)
    uri = local_path(uri) if isinstance(drive, LocalDrive) else uri
    head = len(fixed_folder(uri)) + 1

    def begin(place: str) -> tuple[str, Iterator[FileVersion]]:
        files = iter(drive.files(place, suffixes, left_out))
        return place, chain(list(islice(files, 1)), files)  # fetches the first one in a thread

    for place, files in ahead(begin, expand_braces(uri)):
        empty = True
        for file in files:
            empty = False
            name = place[head:].rstrip("/")
            yield file.model_copy(update={"name": name if file.path.endswith(f"/{name}") else f"{name}/{file.name}"})
        if empty:
            raise BadInput(f"source.uri lists '{place}', and there is no such file: correct the list")


def root_of(uri: str) -> str:
    """Return the root of a path or URI, relative to which files are named (`FileVersion.root`); it need not exist."""
    if _is_list(uri):
        uri = fixed_folder(uri) or "."
    drive = drive_of(uri)
    if isinstance(drive, LocalDrive):
        path = local_path(uri)
        root = path if os.path.lexists(path) else split_pattern(path)[0]
        return os.path.dirname(root) if os.path.isfile(root) else root or "/"  # noqa: PTH120, PTH113
    if isinstance(drive, S3Drive):
        uri = "s3://" + "/".join(split_uri(uri))
    return split_pattern(uri)[0].rstrip("/")


def open_file(path: str) -> pa.NativeFile:
    """Open for reading with seek."""
    return drive_of(path).open(path)


def open_plain(path: str) -> pa.NativeFile:
    """Open for sequential reading; decompresses compressed files. A truncated file raises OSError or EOFError.

    Raises:
        BadInput: its name has a suffix of compression, and it is neither compressed nor text.
    """
    file = open_file(path)
    codec = packing_of(file.read(CONTENT_HEAD_BYTES), path)
    file.seek(0)
    return unpacking(file, codec)


def open_with_head(path: str, size: int) -> tuple[bytes, pa.NativeFile, bool]:
    """Return the first `size` bytes, the stream after them, and whether it is decompressed. Reads only the head. Raises like `open_plain`."""
    file = open_file(path)
    head: bytes = file.read(size)
    codec = packing_of(head[:CONTENT_HEAD_BYTES], path)
    if codec is None:
        return head, file, False
    file.seek(0)
    plain = unpacking(file, codec)
    return plain.read(size), plain, True


def check_unchanged(files: Iterable[FileVersion]) -> None:
    """Compare files with their planned versions.

    Raises:
        Permanent: a file was changed or removed; names it.
    """
    files = tuple(files)
    for planned, now in drive_of(files[0].path).versions(files) if files else ():
        if now is None:
            raise Permanent(f"{planned.path} was removed while it was being read: run again")
        if (now.size, now.version) != (planned.size, planned.version):
            raise Permanent(f"{planned.path} was changed while it was being read: run again")


def guard_unchanged(files: tuple[FileVersion, ...], values: Iterable[T]) -> Iterator[T]:
    """Yield the values; raises Permanent if the files differ from the plan before the first or after the last value."""
    check_unchanged(files)
    try:
        yield from values
    except BadInput:
        check_unchanged(files)  # a mix of two versions looks like damage: report the true cause
        raise
    check_unchanged(files)


@contextmanager
def reading(path: str, kind: str) -> Iterator[None]:
    """Translate read errors to one-line errors that name the file.

    Args:
        path: the file.
        kind: the expected format, such as "Parquet file".
    """
    try:
        yield
    except KitestringError:
        raise
    except FileNotFoundError as error:
        raise Permanent(f"{path} was removed while it was being read: run again") from error
    except PermissionError as error:
        raise BadInput(f"{path} may not be read: give this user the right to read it") from error
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, kind, error) from error


def is_transient(error: BaseException) -> bool:
    """Return whether a read error comes from reaching the file, not from its content or permissions."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    service = _service(error)
    return (
        service not in DENIED if service else isinstance(error, TimeoutError | ConnectionError) or getattr(error, "errno", None) is not None
    )


def _service(error: BaseException) -> str:
    """Return AWS' error code, which Arrow reports only in the message; "" without one."""
    found = re.search(r"AWS Error ([A-Z_]+)", str(error))
    return found[1] if found else ""


def _unreadable(path: str, kind: str, error: BaseException) -> KitestringError:
    service = _service(error)
    if is_transient(error):
        return Transient(f"{path} could not be read: {service or first_words(error)}")
    if service:
        return BadInput(f"{path} may not be read ({service}): check the AWS credentials and the bucket's policy")
    other = _other_content(path, kind)
    reason = f"it is {other}" if other else first_words(error)
    return BadInput(f"{path} is not a readable {kind}: {reason}: replace the file or leave it out")


def _other_content(path: str, kind: str) -> str | None:
    """Return the format of an unreadable file by its first bytes, if it is not the expected one."""
    head = b""
    with suppress(Exception), open_file(path) as file:
        head = file.read(CONTENT_HEAD_BYTES)
    actual = kind_of(head) if codec_of(head) is None or kind.startswith("Parquet") else None
    return actual if actual != f"a {kind}" else None


def require_rows(values: Iterable[T], uri: str) -> Iterator[T]:
    """Yield the values, at least one.

    Raises:
        BadInput: the source has no row.
    """
    empty = True
    for value in values:
        empty = False
        yield value
    if empty:
        raise BadInput(f"source.uri: '{uri}' has no rows")
