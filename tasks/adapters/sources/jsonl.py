"""JSON Lines: plain files are cut at byte ranges, .gz and .zst are one shard each. No file is held whole.

A line belongs to the range in which its first byte stands. Blank lines are no rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, suppress

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.files.access import first_file, hold_still, is_compressed, list_files, open_file, open_plain, reading, some
from tasks.adapters.rows.column_types import check_columns, from_objects
from tasks.adapters.rows.inferred_types import mixture, type_of_values
from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.line_reader import BOM, LINE_NOT_UTF8, Line, head_of, numbered, parse_line, ranged, rows_in_head
from tasks.adapters.sources.source_files import SAMPLED_BYTES, ColumnSurvey, SourceFiles, spread
from tasks.domain.errors import BadInput
from tasks.domain.job.source import JsonLinesSource
from tasks.domain.shards.shard import ByteRange, FileVersion, Shard, Span, Whole

SUFFIXES = tuple(f"{plain}{packed}" for plain in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz", ".zst"))
HEAD = 64 << 10  # bytes that tell how long a row is and what its keys hold
SAMPLE_WINDOW = 1 << 20  # bytes that are looked at in one place of a large file
BATCH_ROWS = 4_096
BATCH_BYTES = 8 << 20


class JsonLinesFiles(SourceFiles[JsonLinesSource]):
    """JSON Lines files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        file = first_file(self.config.uri, SUFFIXES)
        lines, _ = _head(file)
        objects = [row for line in lines if (row := parse_line(line, file.path)) is not None]
        if not objects:
            raise BadInput(
                f"{file.path} has no row in its first {HEAD} bytes from which the columns could be read: give another file first"
            )
        keys = list(dict.fromkeys(key for row in objects for key in row))
        survey = ColumnSurvey(wanted)
        if not (wanted is None or wanted or set(self.config.required) - set(keys)):
            return survey
        files = spread(survey.listed(list_files(self.config.uri, SUFFIXES)))
        for each, rows in ahead(lambda each: (each, _sampled(each, SAMPLED_BYTES // max(1, len(files)))), files):
            _note_keys(survey, rows, each)
            keys += (key for row in rows for key in row)
        check_columns(self.config.required, list(dict.fromkeys(keys)), file.path)
        return survey

    def spans(self) -> Iterator[Span]:
        files = (file for file in self.files(SUFFIXES) if self.is_read(file, file.size))
        looked_at = ahead(lambda file: (file, _row_bytes(file)), files)
        return some((span for file, row in looked_at for span in self._cut(file, row)), self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return hold_still(shard.span.files, self._batches(shard))

    def rows_in_head(self, file: FileVersion, *, seen: int, read: int) -> tuple[int, int]:  # noqa: ARG002 - it is counted in lines
        return rows_in_head(file)

    def _cut(self, file: FileVersion, row: int) -> Iterator[Span]:
        if not self.is_read(file, row, "with blank lines only"):
            return
        if is_compressed(file.path):
            yield Span(files=(file,), extent=Whole(), rows=None)
            return
        step = self.rows * row
        for start in range(0, file.size, step):
            yield Span(files=(file,), extent=ByteRange(start=start, stop=min(start + step, file.size)), rows=None)

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file] = shard.span.files
        lines: list[Line] = []
        size = 0
        with reading(file.path, "JSON Lines file"), closing(_Lines(shard)) as source:
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
        columns = from_objects([row or {} for row in parsed], self.config.columns)
        reasons = pa.array([LINE_NOT_UTF8 if row is None else None for row in parsed], pa.string())
        fields = [*(field for field, _ in columns.values()), pa.field(REASON_COLUMN, pa.string())]
        return pa.record_batch([*(array for _, array in columns.values()), reasons], schema=pa.schema(fields))


class _Lines:
    """The lines of a shard, with the file that they come from."""

    def __init__(self, shard: Shard) -> None:
        [file], extent = shard.span.files, shard.span.extent
        self._file: pa.NativeFile = open_plain(file.path) if isinstance(extent, Whole) else open_file(file.path)
        self._lines = ranged(self._file, extent.start, extent.stop) if isinstance(extent, ByteRange) else numbered(self._file)

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
                survey.said[key] = f"column '{key}' holds texts and other values in {file.name}: it is stored as text"


def _sampled(file: FileVersion, size: int) -> list[dict[str, object]]:
    """Rows from everywhere in a file, or from the beginning of one that can only be read from there; about `size` bytes. Bad lines are left out."""
    with reading(file.path, "JSON Lines file"):
        if is_compressed(file.path):
            with closing(open_plain(file.path)) as opened:
                lines = head_of(opened, size)[0]
        else:
            with closing(open_file(file.path)) as opened:
                windows = max(1, min(size, file.size) // SAMPLE_WINDOW)
                step, width = file.size / windows, min(file.size, max(SAMPLE_WINDOW, size)) if windows == 1 else SAMPLE_WINDOW
                lines = [line for at in range(windows) for line in ranged(opened, int(at * step), int(at * step) + width)]
    rows: list[dict[str, object]] = []
    for line in lines:
        with suppress(BadInput):
            rows += [row] if (row := parse_line(line, file.path)) is not None else []
    return rows


def _head(file: FileVersion) -> tuple[list[Line], int]:
    with reading(file.path, "JSON Lines file"), closing(open_plain(file.path)) as opened:
        return head_of(opened, HEAD)


def _row_bytes(file: FileVersion) -> int:
    """Bytes of a row, by the file's head; 0: it has none."""
    _, row = _head(file)
    if row and not is_compressed(file.path):
        _check_last_line(file)
    return row


def _check_last_line(file: FileVersion) -> None:
    """A file that was cut off while it was written ends in half a line: find that before anything is encoded."""
    with reading(file.path, "JSON Lines file"), closing(open_file(file.path)) as opened:
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
        place = f"byte {start + line + 1}"
        parse_line(Line(data=tail[line + 1 :].removeprefix(BOM), place=place, last=True), file.path)
