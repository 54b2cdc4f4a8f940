"""Reads tar files sequentially, one member at a time, without writing to disk.

Python's tarfile stops silently at a damaged header, and at empty blocks in the middle of a file, as left by concatenating two tars with
`cat`; that would lose rows. Here a damaged header raises, and empty blocks are skipped.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import pyarrow as pa

from tasks.adapters.files.access import open_file, open_plain
from tasks.adapters.files.compression import kind_of, packing_of
from tasks.domain.errors import BadInput
from tasks.domain.shards.shard import FileVersion

TAR_BLOCK_BYTES = 512
TAR_READ_BYTES = 1 << 20
LARGEST_MEMBER = 256 << 20  # bytes; a larger one is not read into memory


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file or link in a tar; `data` is None if it is not wanted or too large."""

    name: str
    size: int
    data: bytes | None
    link: bool = False


def _headers() -> type[tarfile.TarInfo]:
    """Return the header class for one file, which accepts the end of the file only after empty blocks."""

    class Header(tarfile.TarInfo):
        after_empty_block = False

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
            ended, Header.after_empty_block = Header.after_empty_block, len(buf) > 0 and not any(buf)
            try:
                return super().frombuf(buf, encoding, errors)
            except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
                if ended:
                    raise
                raise tarfile.ReadError("its end is missing") from error
            except (tarfile.TruncatedHeaderError, tarfile.InvalidHeaderError) as error:  # type: ignore[attr-defined]
                raise tarfile.ReadError(f"no sound header: {error}") from error

    return Header


def check_whole(file: FileVersion) -> bool:
    """Check both ends of a plain tar; returns False if it has no member. The end of a compressed one is only known after reading it.

    Raises:
        BadInput: it is truncated, or not a tar.
    """
    opened = open_file(file.path)
    try:
        begin = opened.read(TAR_BLOCK_BYTES)
        if packing_of(begin, file.path):
            return True
        if (actual := kind_of(begin)) and actual != "a tar archive":
            raise BadInput(f"{file.path} is no tar, but {actual}: replace the file or leave it out")
        opened.seek(max(0, file.size - TAR_BLOCK_BYTES))
        end = opened.read(TAR_BLOCK_BYTES)
        if file.size % TAR_BLOCK_BYTES or end.strip(b"\0"):
            raise BadInput(f"{file.path} is cut off: a tar ends with empty blocks of {TAR_BLOCK_BYTES} bytes: fetch or pack it again")
        opened.seek(0)
        while piece := opened.read(TAR_READ_BYTES):  # a tar without members may precede another
            if piece.strip(b"\0"):
                return True
    finally:
        opened.close()
    return False


def members(path: str, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Yield the files and links of a tar in order, with the bytes of the wanted files.

    Raises:
        BadInput: the tar is damaged or truncated (names the file and the member), or a member's name points outside it.
    """
    last = "its beginning"
    opened: pa.NativeFile = open_plain(path)
    try:
        with _open_tar(opened) as tar:
            for info in tar:
                last = f"member '{info.name}'"
                _check_name(info.name, path)
                if info.isfile():
                    yield Member(info.name, info.size, _data(tar, info, wanted))
                elif info.islnk() or info.issym():
                    yield Member(info.name, 0, None, link=True)
                _forget(tar)
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"{path} is cut off or damaged after {last} ({error}): fetch or pack it again") from error
    finally:
        opened.close()


def _open_tar(file: pa.NativeFile) -> tarfile.TarFile:
    stream = cast("IO[bytes]", file)
    return tarfile.open(fileobj=stream, mode="r|", bufsize=TAR_READ_BYTES, tarinfo=_headers(), ignore_zeros=True)


def _data(tar: tarfile.TarFile, info: tarfile.TarInfo, wanted: Callable[[str], bool]) -> bytes | None:
    if info.size > LARGEST_MEMBER or not wanted(info.name):
        return None
    file = tar.extractfile(info)
    data = file.read() if file else b""
    if len(data) != info.size:
        raise tarfile.ReadError(f"{len(data)} of {info.size} bytes are there")
    return data


def _check_name(name: str, path: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise BadInput(f"{path} has a member '{name}', which points outside the tar: pack it again with plain relative names")


def _forget(tar: Any) -> None:
    """Free the members that tarfile keeps in memory: gigabytes for a million of them."""
    tar.members.clear()
