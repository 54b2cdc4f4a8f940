"""Lines out of bytes, and objects out of lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from tasks.adapters.files.access import is_compressed, open_file, reading
from tasks.adapters.rows.column_types import json_value
from tasks.domain.errors import BadInput
from tasks.domain.shards.shard import FileVersion

LINE_READ_BYTES = 1 << 20
SHORT_READ_BYTES = 64 << 10
COUNTED_HEAD_BYTES = 1 << 20  # bytes that tell how many rows a file has that cannot be cut
MOST_UNPACKED = 16 << 20  # bytes that such a head may come to
LINE_NOT_UTF8 = "not UTF-8"
BOM = b"\xef\xbb\xbf"


class Readable(Protocol):
    """What lines are read from."""

    def read(self, nbytes: int, /) -> bytes: ...

    def seek(self, position: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end, and where it is."""

    data: bytes
    place: str
    last: bool = False


def is_blank(line: bytes) -> bool:
    """Whether there is nothing but white space."""
    return not line or line.isspace()


def ranged(file: Readable, start: int, stop: int) -> Iterator[Line]:
    """The lines whose first byte is in [start, stop), blank ones left out; `place` is the byte."""
    at = max(0, start - 1)
    file.seek(at)
    # From the byte before on, the first line end shows where the range's own first line begins.
    chunk = min(LINE_READ_BYTES, max(SHORT_READ_BYTES, stop - at))
    for number, (line, ended) in enumerate(_split(file, chunk)):
        begin, at = at, at + len(line) + ended
        if number == 0 and start > 0:
            continue
        if begin >= stop:
            return
        data = line.removeprefix(BOM) if begin == 0 else line
        if not is_blank(data):
            yield Line(data, f"byte {begin}")


def numbered(file: Readable) -> Iterator[Line]:
    """Every line that is not blank; `place` is its number, from 1."""
    for number, (line, _) in enumerate(_split(file, LINE_READ_BYTES), 1):
        data = line.removeprefix(BOM) if number == 1 else line
        if not is_blank(data):
            yield Line(data, f"line {number}")


def _split(file: Readable, size: int) -> Iterator[tuple[bytes, int]]:
    """Lines, and 1 where a line end follows. Holds a chunk and a line."""
    rest: list[bytes] = []  # pieces of a line that is longer than a chunk
    while chunk := file.read(size):
        lines = chunk.split(b"\n")
        if len(lines) > 1:
            yield b"".join([*rest, lines[0]]), 1
            for line in lines[1:-1]:
                yield line, 1
            rest = []
        rest.append(lines[-1])
    if last := b"".join(rest):
        yield last, 0


def parse_line(line: Line, path: str) -> dict[str, object] | None:
    """The line's object; None where it is not UTF-8.

    Raises:
        BadInput: it is no JSON object; names the file and the place.
    """
    try:
        value = json_value(line.data)
    except ValueError as error:
        return _second_look(line, path, str(error))
    if isinstance(value, dict):
        return value
    raise BadInput(f"{path} {line.place}: the line is JSON, but not an object {{...}}: write one object on each line")


def head_of(file: Readable, size: int) -> tuple[list[Line], int]:
    """The whole lines in about the first `size` bytes, and how many bytes a row takes there; (.., 0) where there is no row."""
    data = b""
    while len(data) < size or b"\n" not in data:
        more = file.read(size)
        if not more:
            lines = list(numbered(io.BytesIO(data)))
            return lines, -(-len(data) // len(lines)) if lines else 0
        data += more
    lines = list(numbered(io.BytesIO(data[: data.rfind(b"\n") + 1])))
    # The line that the head cuts off counts too: after short lines, a very long one may begin there.
    return lines, len(data) // (len(lines) + 1)


def _second_look(line: Line, path: str, complaint: str) -> dict[str, object] | None:
    """What orjson refuses may still be a row: NaN, which others write, or bytes that are not UTF-8."""
    try:
        text = line.data.decode()
    except UnicodeDecodeError:
        if not line.last or _parses(line.data.decode(errors="replace")):
            return None
        text = ""
    value = _parses(text)
    if value is None:
        cut = "is cut off or broken" if line.last else "is not JSON"
        raise BadInput(f"{path} {line.place}: the line {cut} ({complaint}): repair or remove it") from None
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return value


def _parses(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def rows_in_head(file: FileVersion, *, delimiter: str | None = None) -> tuple[int, int]:
    """Rows in the first bytes of a file of lines, and how many bytes those are, as the file holds them. `delimiter`: of CSV, whose rows may hold newlines."""
    with reading(file.path, "file"), open_file(file.path) as opened:
        raw = opened.read(COUNTED_HEAD_BYTES)
    data, covered = _unpacked(raw) if is_compressed(file.path) else (raw, len(raw))
    lines = data.decode(errors="replace")
    rows = sum(1 for line in lines.split("\n") if line.strip())
    if delimiter:
        with suppress(csv.Error):  # a cell that is longer than Python's own reader takes
            rows = sum(1 for _ in csv.reader(io.StringIO(lines), delimiter=delimiter)) - 1
    return max(0, rows - (covered < file.size)), covered


def _unpacked(raw: bytes) -> tuple[bytes, int]:
    """As much as the beginning of a compressed file gives, within bounds, and how many bytes of it that took."""
    found, packed = io.BytesIO(), pa.BufferReader(raw)
    kind = "gzip" if raw.startswith(b"\x1f\x8b") else "zstd"
    with suppress(OSError, EOFError), pa.CompressedInputStream(packed, kind) as stream:
        while chunk := stream.read(64 << 10):
            found.write(chunk)
            if found.tell() > MOST_UNPACKED:
                return found.getvalue(), packed.tell()
    return found.getvalue(), len(raw)
