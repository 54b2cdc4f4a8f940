"""Splits byte streams into lines, and parses lines as JSON objects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tasks.adapters.files.access import open_file, reading
from tasks.adapters.files.compression import CONTENT_HEAD_BYTES, codec_of, unpacking
from tasks.adapters.rows.column_types import NestedTooDeepError, checked_depth, checked_surrogates, json_value
from tasks.domain.errors import BadInput
from tasks.domain.shards.findings import Finding
from tasks.domain.shards.shard import FileVersion

LINE_READ_BYTES = 1 << 20
SHORT_READ_BYTES = 64 << 10
COUNTED_HEAD_BYTES = 1 << 20  # bytes to estimate the rows of an unsplittable file from
MOST_UNPACKED = 16 << 20  # limit of such a head's uncompressed bytes
LONGEST_ROW_BYTES = 16 << 20  # longer rows are quarantined, and never held in memory whole
LINE_NOT_UTF8 = "not UTF-8"
NOT_UTF8_FILES = "files with rows that are not UTF-8 and will be quarantined (set source.encoding if they have another encoding, such as cp1252 or latin-1)"
BOM = b"\xef\xbb\xbf"


class Stream(Protocol):
    """A sequential byte stream."""

    def read(self, nbytes: int, /) -> bytes: ...


class Readable(Stream, Protocol):
    """A seekable byte stream."""

    def seek(self, position: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end, and its place. `reason`: why it cannot be read; then `data` is empty."""

    data: bytes
    place: str
    last: bool = False
    reason: str | None = None


def too_long(place: str) -> str:
    """Return the quarantine reason of a row longer than LONGEST_ROW_BYTES."""
    return f"too large: {place}: a row of more than {LONGEST_ROW_BYTES} bytes"


def not_utf8(place: str) -> str:
    """Return the quarantine reason of a row that is not UTF-8."""
    return f"{LINE_NOT_UTF8}: {place}: set source.encoding if the file has another, such as cp1252 or latin-1"


def not_utf8_file(name: str, place: str) -> Finding:
    """Return the finding about a file with such a row in its beginning."""
    return Finding(what=NOT_UTF8_FILES, count=1, example=f"{name} {place}")


def is_blank(line: bytes) -> bool:
    """Return whether a line has only white space."""
    return not line or line.isspace()


def ranged(file: Readable, start: int, stop: int) -> Iterator[Line]:
    """Yield the non-blank lines whose first byte is in [start, stop); `place` is that byte."""
    at = max(0, start - 1)
    file.seek(at)
    # Starting one byte early, the first line end marks the start of the range's own first line.
    chunk = min(LINE_READ_BYTES, max(SHORT_READ_BYTES, stop - at))
    for number, (line, length) in enumerate(_split(file, chunk)):
        begin, at = at, at + length
        if number == 0 and start > 0:
            continue
        if begin >= stop:
            return
        yield from _line(line, f"byte {begin}", first=begin == 0)


def numbered(file: Stream, size: int = LINE_READ_BYTES) -> Iterator[Line]:
    """Yield the non-blank lines; `place` is the line number, from 1. `size`: bytes to read at a time."""
    for number, (line, _) in enumerate(_split(file, size), 1):
        yield from _line(line, f"line {number}", first=number == 1)


def _line(line: bytes | None, place: str, *, first: bool) -> Iterator[Line]:
    if line is None:
        yield Line(b"", place, reason=too_long(place))
        return
    data = line.removeprefix(BOM) if first else line
    if not is_blank(data):
        yield Line(data, place)


def _split(file: Stream, size: int) -> Iterator[tuple[bytes | None, int]]:
    """Yield each line (None if too long) and its bytes including the line end. Memory holds a chunk and a line."""
    rest = _Rest()
    while chunk := file.read(size):
        lines = chunk.split(b"\n")
        if len(lines) > 1:
            rest.add(lines[0])
            yield rest.take(ended=1)
            for line in lines[1:-1]:
                yield line, len(line) + 1
        rest.add(lines[-1])
    if rest.length:
        yield rest.take(ended=0)


class _Rest:
    """Collects the pieces of a line that spans chunks."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.length = 0

    def add(self, piece: bytes) -> None:
        self.length += len(piece)
        self.pieces = [*self.pieces, piece] if self.length <= LONGEST_ROW_BYTES else []

    def take(self, *, ended: int) -> tuple[bytes | None, int]:
        pieces, length = self.pieces, self.length
        self.pieces, self.length = [], 0
        return (b"".join(pieces) if length <= LONGEST_ROW_BYTES else None), length + ended


def parse_line(line: Line, path: str) -> tuple[dict[str, object] | None, str | None]:
    """Return the line's object, or why there is none: it is too long, not a JSON object, or not UTF-8.

    Raises:
        BadInput: it is the file's last line and truncated; names the file and the place.
    """
    if line.reason:
        return None, line.reason
    try:
        value = json_value(line.data)
    except NestedTooDeepError as error:
        return None, f"nested too deep: {line.place}: {error}"
    except ValueError as error:
        return _parse_leniently(line, path, str(error))
    if isinstance(value, dict):
        return value, None
    return None, f"not an object: {line.place}: JSON, but no object {{...}}"


def head_of(file: Stream, size: int) -> tuple[list[Line], int]:
    """Return the whole lines in about the first `size` bytes, and the bytes per row there; (.., 0) without rows.

    If the first line is too long, returns only that line, with the reason.
    """
    data = b""
    while len(data) < size or (b"\n" not in data and len(data) <= LONGEST_ROW_BYTES):
        more = file.read(size)
        if not more:
            lines = list(numbered(io.BytesIO(data)))
            return lines, -(-len(data) // len(lines)) if lines else 0
        data += more
    if b"\n" not in data:
        return list(numbered(io.BytesIO(data))), len(data)
    lines = list(numbered(io.BytesIO(data[: data.rfind(b"\n") + 1])))
    # Count the truncated line at the end too: after short lines, a very long one may begin there.
    return lines, len(data) // (len(lines) + 1)


def _parse_leniently(line: Line, path: str, complaint: str) -> tuple[dict[str, object] | None, str | None]:
    """Retry a line that orjson rejects: it may have NaN, which other programs write, or bytes that are not UTF-8."""
    try:
        text = line.data.decode()
    except UnicodeDecodeError:
        if not line.last or _lenient_object(line.data.decode(errors="replace")):
            return None, not_utf8(line.place)
        text = ""
    value = _lenient_object(text)
    if value is None:
        if line.last:
            raise BadInput(f"{path} {line.place}: the line is cut off or broken ({complaint}): repair or remove it") from None
        return None, f"not JSON: {line.place}: {complaint}"
    try:
        return checked_surrogates(value), None
    except UnicodeEncodeError:
        return None, f"{LINE_NOT_UTF8}: {line.place}: half of a surrogate pair"


def _lenient_object(text: str) -> dict[str, object] | None:
    try:
        value = checked_depth(json.loads(text))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def rows_in_head(file: FileVersion, encoding: str, count: Callable[[bytes], int]) -> tuple[int, int]:
    """Return the rows at the beginning of a line-based file, and its bytes in the file. `count` counts rows in UTF-8, including the last."""
    with reading(file.path, "file"), open_file(file.path) as opened:
        raw = opened.read(COUNTED_HEAD_BYTES)
    codec = codec_of(raw[:CONTENT_HEAD_BYTES])
    data, covered = _unpacked(raw, codec) if codec else (raw, len(raw))
    return max(0, count(data.decode(encoding, errors="replace").encode()) - (covered < file.size)), covered


def count_lines(data: bytes) -> int:
    """Count the non-blank lines."""
    return sum(1 for line in data.split(b"\n") if not is_blank(line))


def _unpacked(raw: bytes, codec: str) -> tuple[bytes, int]:
    """Decompress the beginning of a compressed file, within limits. Returns the data, and the compressed bytes consumed."""
    unpacked, packed = io.BytesIO(), pa.BufferReader(raw)
    with suppress(OSError, EOFError), unpacking(packed, codec) as stream:
        while chunk := stream.read(64 << 10):
            unpacked.write(chunk)
            if unpacked.tell() > MOST_UNPACKED:
                return unpacked.getvalue(), packed.tell()
    return unpacked.getvalue(), len(raw)
