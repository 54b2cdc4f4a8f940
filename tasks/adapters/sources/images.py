"""A folder of pictures: a row is a file, its key the name below the folder. Only listings are read here.

Shards are cut where the hash of a name says so, as in content-defined chunking (LBFS, Muthitacharoen
et al. 2001): one picture more or less changes the shard that it falls in and leaves the others as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa

from tasks.adapters.files.access import guard_unchanged, list_files, require_rows
from tasks.adapters.rows.row_schema import IMAGE_URI, KEY_COLUMN
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.domain.job.source import ImagesSource
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

ENDS = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "jfif", "jpe", "avif", "jp2", "j2k", "jpx", "heic", "heif", "hif")
SUFFIXES = tuple(f".{end}" for end in ENDS)
BATCH_ROWS = 4_096
SCHEMA = pa.schema([pa.field(KEY_COLUMN, pa.string()), pa.field(IMAGE_URI, pa.string())])


class ImageFiles(SourceFiles[ImagesSource]):
    """Picture files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        next(list_files(self.config.uri, SUFFIXES))
        return ColumnSurvey(wanted)

    def spans(self) -> Iterator[Span]:
        files = self.files(SUFFIXES)
        return require_rows(
            (Span(files=tuple(group), extent=Whole(), rows=len(group)) for group in group_files(files, self.rows)), self.config.uri
        )

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return guard_unchanged(shard.span.files, _batches(shard.span.files))


def _batches(files: tuple[FileVersion, ...]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(files), BATCH_ROWS):
        some_files = files[start : start + BATCH_ROWS]
        columns = [pa.array([f.name for f in some_files], pa.string()), pa.array([f.path for f in some_files], pa.string())]
        yield pa.record_batch(columns, schema=SCHEMA)


def group_files(files: Iterable[FileVersion], rows: int) -> Iterator[list[FileVersion]]:
    """Groups of half to twice `rows` files (the last may be smaller), each begun by a name whose hash says so."""
    least, most = max(1, rows // 2), 2 * rows
    held: list[FileVersion] = []
    for file in files:
        if len(held) >= least and _begins(file, least):
            yield held
            held = []
        held.append(file)
        if len(held) == most:
            at = min(range(least, most), key=lambda i: _hash(held[i]))  # no name says so: the one that comes nearest
            yield held[:at]
            held = held[at:]
    if held:
        yield held


def _begins(file: FileVersion, one_in: int) -> bool:
    return _hash(file) % one_in == 0


def _hash(file: FileVersion) -> int:
    return int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:8], "big")
