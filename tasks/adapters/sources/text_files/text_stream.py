"""Reads a text file sequentially as UTF-8, decompressed; recognises binary files by their first bytes."""

from __future__ import annotations

import codecs

from tasks.adapters.files.access import open_with_head
from tasks.adapters.files.compression import CONTENT_HEAD_BYTES, kind_of
from tasks.domain.errors import BadInput

TEXT_HEAD_BYTES = 64 << 10
UNDECODABLE = b"\xff"  # replaces bytes that are invalid in the encoding: a row with it is quarantined
_CURES = {
    "a Parquet file": "set source.kind to parquet",
    "an HTML page": "fetch the file again",
    "a tar archive": "unpack it",
    "a ZIP archive or an Office document": "unpack it, or save the table as CSV",
}


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end  # "surrogateescape" writes it as UNDECODABLE


codecs.register_error("kitestring.mark", _undecodable)


def is_utf8(encoding: str) -> bool:
    """Return whether an encoding needs no conversion."""
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig", "ascii"}


class TextStream:
    """The text of a file as UTF-8.

    Args:
        path: path of the file; compressed files are decompressed.
        encoding: the job's setting.
        kind: the expected format, such as "CSV file".

    Attributes:
        packed: whether the file is compressed, so that it can only be read from its beginning.

    Raises:
        BadInput: its first bytes indicate another format; names the format and the remedy.
    """

    def __init__(self, path: str, encoding: str, kind: str) -> None:
        head, self._file, self.packed = open_with_head(path, TEXT_HEAD_BYTES)
        try:
            self._check(head[:CONTENT_HEAD_BYTES], path, encoding, kind)
        except BaseException:
            self._file.close()
            raise
        self._decoder = None if is_utf8(encoding) else codecs.getincrementaldecoder(encoding)("kitestring.mark")
        self._head = self._as_utf8(head)

    def read(self, size: int, /) -> bytes:
        """Read about `size` bytes; empty only at the end."""
        if self._head:
            head, self._head = self._head, b""
            return head + self.read(size - len(head)) if len(head) < size else head
        while raw := self._file.read(size):
            if data := self._as_utf8(raw):
                return data
        return self._as_utf8(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Read into a buffer, at least partially. Returns the number of bytes, 0 only at the end."""
        if not self._head and self._decoder is None:
            return int(self._file.readinto(buffer))
        data = self.read(len(buffer))
        taken, self._head = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    @property
    def head(self) -> bytes:
        """The first bytes of the file, before the first read."""
        return self._head

    def close(self) -> None:
        self._file.close()

    def _as_utf8(self, raw: bytes) -> bytes:
        if self._decoder is None:
            return raw
        return self._decoder.decode(raw, not raw).encode("utf-8", "surrogateescape")

    def _check(self, head: bytes, path: str, encoding: str, kind: str) -> None:
        actual = kind_of(head)
        if actual is None:
            return
        if not actual.startswith("text in "):
            raise BadInput(f"{path} is no {kind}, but {actual}: {_CURES.get(actual, 'replace the file or leave it out')}")
        if is_utf8(encoding):
            name = actual.removeprefix("text in ")
            raise BadInput(f"{path} is text in {name}, not in UTF-8: set source.encoding to {name.lower()}")
