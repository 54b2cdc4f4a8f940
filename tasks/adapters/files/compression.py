"""Recognises a file's format and compression by its first bytes, not by its name."""

from __future__ import annotations

import codecs
import lzma

import pyarrow as pa

from tasks.domain.errors import BadInput

CONTENT_HEAD_BYTES = 512  # enough to recognise a format
XZ_READ_BYTES = 64 << 10
PACKED = (".gz", ".zst", ".bz2", ".xz", ".lz4")
_PACKED_NAMES = (*PACKED, ".tgz", ".tbz2", ".txz")
_CODECS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    *((bytes([number, 0x2A, 0x4D, 0x18]), "zstd") for number in range(0x50, 0x60)),  # a skippable frame, which pzstd writes first
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
    """Return the compression of a file by its first bytes, or None."""
    return next((codec for magic, codec in _CODECS if head.startswith(magic) and not is_text(head)), None)


def kind_of(head: bytes) -> str | None:
    """Return the format of a file by its first bytes, for messages; None if unknown: it may be plain text."""
    if is_text(head):
        return next((kind for magic, kind in _MARKUP if head.lstrip().lower().startswith(magic)), None)
    if codec := codec_of(head):
        return f"{codec}-compressed"
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for magic, kind in _BINARY if head.startswith(magic)), None) or _without_mark(head)


def _without_mark(head: bytes) -> str | None:
    """Recognise UTF-16 without a byte order mark: in most texts every second byte is zero."""
    low, high = head[::2].count(0), head[1::2].count(0)
    if max(low, high) * 2 < 0.8 * len(head) or min(low, high) * 8 > len(head):
        return None
    return "text in UTF-16-LE" if high > low else "text in UTF-16-BE"


def named_packed(path: str) -> bool:
    """Return whether a file's name has a suffix of compression."""
    return path.lower().endswith(_PACKED_NAMES)


def is_text(head: bytes) -> bool:
    """Return whether a file with these first bytes may be UTF-8 text."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def packing_of(head: bytes, path: str) -> str | None:
    """Return the compression of the file at a path, or None.

    Raises:
        BadInput: its name has a suffix of compression, and it is neither compressed nor a plain file.
    """
    codec = codec_of(head)
    if codec is None and named_packed(path) and not is_text(head) and kind_of(head) != "a tar archive":
        raise BadInput(f"{path} is not compressed as its name says: it begins with the bytes {head[:4].hex(' ')}: fetch it again")
    return codec


def unpacking(file: pa.NativeFile, codec: str | None) -> pa.NativeFile:
    """Return the decompressed stream; a truncated file raises OSError or EOFError."""
    if codec is None:
        return file
    if codec == "xz":  # Arrow has no xz codec
        return pa.PythonFile(_XzStreams(file), mode="r")
    return pa.CompressedInputStream(file, codec)


class _XzStreams:
    """Decompresses a file of concatenated xz streams with padding between them.

    `lzma.LZMAFile` stops silently if the data after a stream is not another one: the rest of a damaged file would be lost.
    """

    def __init__(self, file: pa.NativeFile) -> None:
        self._file, self._packed = file, b""
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ)

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; empty at the end. Raises OSError if damaged, EOFError if truncated."""
        while not self._decoder.eof or self._next_stream():
            if self._decoder.needs_input and not (self._packed or self._fill()):
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            try:
                plain = self._decoder.decompress(self._packed, size)
            except lzma.LZMAError as error:
                raise OSError(f"xz decompress failed: {error}") from error
            self._packed = b""
            if plain:
                return plain
        return b""

    def _fill(self) -> bool:
        self._packed = self._file.read(XZ_READ_BYTES)
        return bool(self._packed)

    def _next_stream(self) -> bool:
        """Start the next stream. Returns whether there is one."""
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
    """Return each suffix alone and with each suffix of compression."""
    return tuple(f"{suffix}{packed}" for suffix in plain for packed in ("", *PACKED))
