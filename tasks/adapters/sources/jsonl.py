"""JSON Lines: plain files are cut into byte ranges; compressed files, arrays and encodings other than UTF-8 are one shard each.

No file is held in memory whole. A line belongs to the range that contains its first byte. Blank lines are skipped. A file that is
one array of objects is read item by item.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import guard_unchanged, open_file, reading, require_rows
from tasks.adapters.files.compression import named_packed, with_packed
from tasks.adapters.rows.column_types import check_columns, from_objects
from tasks.adapters.rows.inferred_types import mixture, type_of_values
from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.source_files import SAMPLED_BYTES, ColumnSurvey, SourceFiles, spread
from tasks.adapters.sources.text_files.json_array import ArrayItems, is_array
from tasks.adapters.sources.text_files.line_reader import (
    BOM,
    LINE_READ_BYTES,
    Line,
    Stream,
    count_lines,
    head_of,
    not_utf8_file,
    numbered,
    parse_line,
    ranged,
    rows_in_head,
)
from tasks.adapters.sources.text_files.text_stream import TextStream, is_utf8
from tasks.domain.errors import BadInput
from tasks.domain.job.source import JsonLinesSource
from tasks.domain.shards.shard import ByteRange, FileVersion, Shard, Span, Whole

SUFFIXES = with_packed(".jsonl", ".ndjson", ".json")
KIND = "JSON Lines file"
HEAD = 64 << 10  # bytes from which the length of rows and the types of keys are inferred
SAMPLE_WINDOW = 1 << 20  # bytes sampled at one position of a large file
LATER_LINES = 64  # lines to read if the first bytes contain no row
BATCH_ROWS = 4_096
BATCH_BYTES = 8 << 20


class JsonLinesFiles(SourceFiles[JsonLinesSource]):
    """JSON Lines files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        file = self.first(SUFFIXES)
        lines = self._head(file).lines
        objects = _objects(lines, file.path) or self._later_objects(file)
        if not objects:
            detail = next((f" ({reason})" for line in lines if (reason := parse_line(line, file.path)[1])), "")
            raise BadInput(
                f"{file.path} has no row in its first {HEAD} bytes from which the columns could be read{detail}: "
                "write one object on each line, or give another file first"
            )
        keys = list(dict.fromkeys(key for row in objects for key in row))
        survey = ColumnSurvey(wanted)
        if not (wanted is None or wanted or set(self.config.required) - set(keys)):
            return survey
        files = spread(survey.listed(self.listed(SUFFIXES)))
        for each, rows in ahead(lambda each: (each, self._sample(each, SAMPLED_BYTES // max(1, len(files)))), files):
            _note_keys(survey, rows, each)
            keys += (key for row in rows for key in row)
        check_columns(self.config.required, list(dict.fromkeys(keys)), file.path)
        return survey

    def spans(self) -> Iterator[Span]:
        files = (file for file in self.files(SUFFIXES) if self.is_read(file, file.size))
        heads = ahead(lambda file: (file, self._head(file)), files)
        return require_rows((span for file, head in heads for span in self._cut(file, head)), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, self._batches(shard))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:
        if self._head(file).array:
            return super().rows_in_head(file, seen=seen, read=read)
        return rows_in_head(file, self.config.encoding, count_lines)

    def _sample(self, file: FileVersion, size: int) -> list[dict[str, object]]:
        """Return rows from all parts of a file, or from its beginning if it cannot be cut; about `size` bytes. Skips bad lines."""
        head = self._beginning(file, size)
        return _objects(head.lines if head.whole else _windows(file, size), file.path)

    def _head(self, file: FileVersion) -> _Head:
        """Read the beginning of a file; if it can be cut, also check that its last line is complete, before anything is encoded."""
        head = self._beginning(file, HEAD)
        if head.row_bytes and not head.whole:
            _check_last_line(file)
        return head

    def _beginning(self, file: FileVersion, size: int) -> _Head:
        with reading(file.path, KIND), closing(TextStream(file.path, self.config.encoding, KIND)) as stream:
            array = is_array(stream.head)
            whole = array or stream.packed or named_packed(file.path) or not is_utf8(self.config.encoding)
            lines, row = _first_items(stream, file.path, size) if array else head_of(stream, size if whole else HEAD)
        return _Head(lines, row, whole, array)

    def _later_objects(self, file: FileVersion) -> list[dict[str, object]]:
        """Return rows after a first line that is too long."""
        with reading(file.path, KIND), closing(TextStream(file.path, self.config.encoding, KIND)) as stream:
            return _objects(islice(numbered(stream), LATER_LINES), file.path) if not is_array(stream.head) else []

    def _cut(self, file: FileVersion, head: _Head) -> Iterator[Span]:
        if (place := next((line.place for line in head.lines if not _decodes(line.data)), None)) is not None:
            self.found.extend([not_utf8_file(file.name, place)])
        if not self.is_read(file, head.row_bytes, "with no rows" if head.array else "with blank lines only"):
            return
        if head.whole:
            yield Span(files=(file,), extent=Whole(), rows=None)
            return
        step = self.rows * head.row_bytes
        for start in range(0, file.size, step):
            yield Span(files=(file,), extent=ByteRange(start=start, stop=min(start + step, file.size)), rows=None)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file] = shard.span.files
        lines: list[Line] = []
        size = 0
        with reading(file.path, KIND), closing(_Lines(shard, self.config.encoding)) as source:
            for line in source:
                lines.append(line)
                size += len(line.data)
                if len(lines) >= BATCH_ROWS or size >= BATCH_BYTES:
                    yield self._batch(lines, file.path)
                    lines, size = [], 0
            if lines:
                yield self._batch(lines, file.path)

    def _batch(self, lines: list[Line], path: str) -> pa.RecordBatch:
        parsed = [parse_line(line, path) for line in lines]
        columns = from_objects([row or {} for row, _ in parsed], self.config.columns)
        reasons = pa.array([reason for _, reason in parsed], pa.string())
        fields = [*(field for field, _ in columns.values()), pa.field(REASON_COLUMN, pa.string())]
        return pa.record_batch([*(array for _, array in columns.values()), reasons], schema=pa.schema(fields))


def _objects(lines: Iterable[Line], path: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for line in lines:
        with suppress(BadInput):  # the last line is truncated
            rows += [row] if (row := parse_line(line, path)[0]) is not None else []
    return rows


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Head:
    """The beginning of a file. `row_bytes`: bytes of a row, 0 without rows. `whole`: the file cannot be cut. `array`: it is a JSON array."""

    lines: list[Line]
    row_bytes: int
    whole: bool
    array: bool


class _Lines:
    """The lines of a shard and their open file."""

    def __init__(self, shard: Shard, encoding: str) -> None:
        [file], extent = shard.span.files, shard.span.extent
        self._lines: Iterator[Line]
        if isinstance(extent, ByteRange):
            self._file = open_file(file.path)
            self._lines = ranged(self._file, extent.start, extent.stop)
        else:
            self._file = stream = TextStream(file.path, encoding, KIND)
            self._lines = iter(ArrayItems(stream, file.path, size=LINE_READ_BYTES)) if is_array(stream.head) else numbered(stream)

    def __iter__(self) -> Iterator[Line]:
        return self._lines

    def close(self) -> None:
        self._file.close()


def _note_keys(survey: ColumnSurvey, rows: list[dict[str, object]], file: FileVersion) -> None:
    for key in dict.fromkeys(key for row in rows for key in row):
        if survey.wants(key):
            values = [row.get(key) for row in rows]
            survey.add(key, type_of_values(values), file.name)
            if mixture(values):
                survey.notes[key] = f"column '{key}' holds texts and other values in {file.name}: it is stored as text"


def _windows(file: FileVersion, size: int) -> list[Line]:
    """Return lines from all parts of a file, about `size` bytes."""
    with reading(file.path, KIND), closing(open_file(file.path)) as opened:
        windows = max(1, min(size, file.size) // SAMPLE_WINDOW)
        step, width = file.size / windows, min(file.size, max(SAMPLE_WINDOW, size)) if windows == 1 else SAMPLE_WINDOW
        return [line for at in range(windows) for line in ranged(opened, int(at * step), int(at * step) + width)]


def _first_items(stream: Stream, path: str, size: int) -> tuple[list[Line], int]:
    """Return the items in the first `size` bytes of an array, and the bytes of an item."""
    items, read = [], 0
    for item in ArrayItems(stream, path, size=HEAD):
        items.append(item)
        read += len(item.data)
        if read >= size:
            break
    return items, read // len(items) if items else 0


def _check_last_line(file: FileVersion) -> None:
    """Detect a file truncated in its last line, before anything is encoded."""
    with reading(file.path, KIND), closing(open_file(file.path)) as opened:
        size = HEAD
        while True:
            start = max(0, file.size - size)
            opened.seek(start)
            tail = opened.read(file.size - start).rstrip()
            line = tail.rfind(b"\n")
            if line >= 0 or start == 0:
                break
            size *= 4
    if tail:
        lines = tail.count(b"\n") + 1  # the line number, if the whole file was read
        place = f"byte {start + line + 1}" if start else f"line {lines}"
        parse_line(Line(data=tail[line + 1 :].removeprefix(BOM), place=place, last=True), file.path)
