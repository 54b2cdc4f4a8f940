"""A text file as UTF-8, read in order: decompressed; a binary file is recognised by its first bytes."""

from __future__ import annotations

import codecs

from tasks.adapters.files.access import open_with_head
from tasks.adapters.files.compression import CONTENT_HEAD_BYTES, kind_of
from tasks.domain.errors import BadInput

TEXT_HEAD_BYTES = 64 << 10
UNDECODABLE = b"\xff"  # replaces bytes that are invalid in the encoding: the row that holds it is quarantined
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
    """Whether bytes of this encoding are read as they are."""
    return codecs.lookup(encoding).name in {"utf-8", "utf-8-sig", "ascii"}


class TextStream:
    """The text of a file as UTF-8.

    Args:
        path: opens it; compressed files are decompressed.
        encoding: as the job gives it.
        kind: the expected format, such as "CSV file".

    Attributes:
        packed: whether the file is compressed, so that it can be read from its beginning only.

    Raises:
        BadInput: its first bytes are those of another format; names the format and the cure.
    """

    def __init__(self, path: str, encoding: str, kind: str) -> None:
        head, self._file, self.packed = open_with_head(path, TEXT_HEAD_BYTES)
        try:
            self._check(head[:CONTENT_HEAD_BYTES], path, encoding, kind)
        except BaseException:
            self._file.close()
            raise
        self._decoder = None if is_utf8(encoding) else codecs.getincrementaldecoder(encoding)("kitestring.mark")
        self._held = self._as_utf8(head)

    def read(self, size: int, /) -> bytes:
        """About so many bytes, and none at the end only."""
        if self._held:
            head, self._held = self._held, b""
            return head + self.read(size - len(head)) if len(head) < size else head
        while raw := self._file.read(size):
            if data := self._as_utf8(raw):
                return data
        return self._as_utf8(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill memory as far as there is something, at least some of it; the number of bytes, and none at the end only."""
        if not self._held and self._decoder is None:
            return int(self._file.readinto(buffer))
        data = self.read(len(buffer))
        taken, self._held = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)

    @property
    def head(self) -> bytes:
        """The first bytes, until they are read."""
        return self._held

    def close(self) -> None:
        self._file.close()

    def _as_utf8(self, raw: bytes) -> bytes:
        if self._decoder is None:
            return raw
        return self._decoder.decode(raw, not raw).encode("utf-8", "surrogateescape")

    def _check(self, head: bytes, path: str, encoding: str, kind: str) -> None:
        found = kind_of(head)
        if found is None:
            return
        if not found.startswith("text in "):
            raise BadInput(f"{path} is no {kind}, but {found}: {_CURES.get(found, 'replace the file or leave it out')}")
        if is_utf8(encoding):
            name = found.removeprefix("text in ")
            raise BadInput(f"{path} is text in {name}, not in UTF-8: set source.encoding to {name.lower()}")
