"""A folder of images: a row is a file, its key the name relative to the folder. Only listings are read here.

Shard boundaries depend on the hashes of names, as in content-defined chunking (LBFS, Muthitacharoen
et al. 2001): adding or removing an image changes only the shard that contains it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa

from tasks.adapters.files.access import guard_unchanged, require_rows
from tasks.adapters.rows.row_schema import IMAGE_URI, KEY_COLUMN
from tasks.adapters.sources.source_files import ColumnSurvey, SourceFiles
from tasks.domain.job.source import ImagesSource
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

ENDS = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp", "jfif", "jpe", "avif", "jp2", "j2k", "jpx", "heic", "heif", "hif")
SUFFIXES = tuple(f".{end}" for end in ENDS)
BATCH_ROWS = 4_096
SCHEMA = pa.schema([pa.field(KEY_COLUMN, pa.string()), pa.field(IMAGE_URI, pa.string())])


class ImageFiles(SourceFiles[ImagesSource]):
    """Image files below a URI."""

    def survey(self, wanted: Collection[str] | None) -> ColumnSurvey:
        next(self.listed(SUFFIXES))
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
        batch = files[start : start + BATCH_ROWS]
        columns = [pa.array([f.name for f in batch], pa.string()), pa.array([f.path for f in batch], pa.string())]
        yield pa.record_batch(columns, schema=SCHEMA)


def group_files(files: Iterable[FileVersion], rows: int) -> Iterator[list[FileVersion]]:
    """Group files, `rows` / 2 to 2 * `rows` each (the last may be smaller); the hash of a name decides where a group begins."""
    least, most = max(1, rows // 2), 2 * rows
    group: list[FileVersion] = []
    for file in files:
        if len(group) >= least and _begins(file, least):
            yield group
            group = []
        group.append(file)
        if len(group) == most:
            at = min(range(least, most), key=lambda i: _hash(group[i]))  # no boundary found: cut at the smallest hash
            yield group[:at]
            group = group[at:]
    if group:
        yield group


def _begins(file: FileVersion, one_in: int) -> bool:
    return _hash(file) % one_in == 0


def _hash(file: FileVersion) -> int:
    return int.from_bytes(hashlib.sha256(file.name.encode()).digest()[:8], "big")
