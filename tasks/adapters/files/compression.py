"""A file's format and compression, recognised by its first bytes, not by its name."""

from __future__ import annotations

import codecs
import lzma

import pyarrow as pa

from tasks.domain.errors import BadInput

CONTENT_HEAD_BYTES = 512  # by which a file's format is recognised
XZ_READ_BYTES = 64 << 10
PACKED = (".gz", ".zst", ".bz2", ".xz", ".lz4")
_PACKED_NAMES = (*PACKED, ".tgz", ".tbz2", ".txz")
_CODECS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes([number, 0x2A, 0x4D, 0x18]), "zstd") for number in range(0x50, 0x60)),  # a skippable frame, with which pzstd begins
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_BINARY = (
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF-", "a PDF document"),
    (codecs.BOM_UTF32_LE, "text in UTF-32"),
    (codecs.BOM_UTF32_BE, "text in UTF-32"),
    (codecs.BOM_UTF16_LE, "text in UTF-16"),
    (codecs.BOM_UTF16_BE, "text in UTF-16"),
)
_MARKUP = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML document"))


def codec_of(head: bytes) -> str | None:
    """How a file that begins so is packed; None: it is not."""
    return next((codec for magic, codec in _CODECS if head.startswith(magic) and not is_text(head)), None)


def kind_of(head: bytes) -> str | None:
    """The format of a file with these first bytes, for messages; None where unknown: it may be plain text."""
    if is_text(head):
        return next((kind for magic, kind in _MARKUP if head.lstrip().lower().startswith(magic)), None)
    if codec := codec_of(head):
        return f"{codec}-compressed"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in _BINARY if head.startswith(magic)), None) or _without_mark(head)


def _without_mark(head: bytes) -> str | None:
    """UTF-16 that has no byte order mark: every second byte of most texts is zero."""
    low, high = head[::2].count(0), head[1::2].count(0)
    if max(low, high) * 2 < 0.8 * len(head) or min(low, high) * 8 > len(head):
        return None
    return "text in UTF-16-LE" if high > low else "text in UTF-16-BE"


def named_packed(path: str) -> bool:
    """Whether a file's name says that it is packed."""
    return path.lower().endswith(_PACKED_NAMES)


def is_text(head: bytes) -> bool:
    """Whether a file that begins so may be text in UTF-8."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def packing_of(head: bytes, path: str) -> str | None:
    """How the file at a path is packed.

    Raises:
        BadInput: its name says that it is packed, and it is neither that nor a plain file.
    """
    codec = codec_of(head)
    if codec is None and named_packed(path) and not is_text(head) and kind_of(head) != "a tar archive":
        raise BadInput(f"{path} is not compressed as its name says: it begins with the bytes {head[:4].hex(' ')}: fetch it again")
    return codec


def unpacking(file: pa.NativeFile, codec: str | None) -> pa.NativeFile:
    """The bytes that a packed file holds, in order; one that is cut off raises OSError or EOFError."""
    if codec is None:
        return file
    if codec == "xz":  # which Arrow has not
        return pa.PythonFile(_XzStreams(file), mode="r")
    return pa.CompressedInputStream(file, codec)


class _XzStreams:
    """What a file of xz streams holds, one after another, with padding between them.

    `lzma.LZMAFile` ends without a word where what follows a stream is no other: the rest of a damaged file would be lost.
    """

    def __init__(self, file: pa.NativeFile) -> None:
        self._file, self._packed = file, b""
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int) -> bytes:
        """Some bytes, at most so many; none at the end. Raises OSError where it is damaged, EOFError where it is cut off."""
        while not self._decoder.eof or self._next_stream():
            if self._decoder.needs_input and not (self._packed or self._fill()):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            try:
                found = self._decoder.decompress(self._packed, size)
            except lzma.LZMAError as error:
                raise OSError(f"xz decompress failed: {error}") from error
            self._packed = b""
            if found:
                return found
        return b""

    def _fill(self) -> bool:
        self._packed = self._file.read(XZ_READ_BYTES)
        return bool(self._packed)

    def _next_stream(self) -> bool:
        """Whether there is one behind this one."""
        self._packed = (self._decoder.unused_data or self._packed).lstrip(b"\0")
        while not self._packed and self._fill():
            self._packed = self._packed.lstrip(b"\0")
        if self._packed:
            self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        return bool(self._packed)

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)

    def close(self) -> None:
        self._file.close()


def with_packed(*plain: str) -> tuple[str, ...]:
    """Suffixes, each alone and before each that says how a file is packed."""
    return tuple(f"{suffix}{packed}" for suffix in plain for packed in ("", *PACKED))
