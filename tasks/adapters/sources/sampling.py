"""Deterministic samples of a corpus: rows at evenly spaced positions.

Distances are in rows, or in bytes if no footer has row counts; so large files are sampled more often than
small ones. Reading is bounded: some rows at each position, from a row group, a range of bytes, or the beginning of a
file that can only be read from there; and a total of bytes and seconds.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pyarrow as pa

from tasks.adapters.rows.builder import RowMaker
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain.errors import KitestringError
from tasks.domain.job.target import TargetSettings
from tasks.domain.shards.shard import ByteRange, RowGroups, Shard, Span, Whole
from tasks.domain.target.fields import SourceField

WINDOW = 128 << 10  # bytes to read at one position of a line-based file


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Limits of a sample: `points` positions of `rows` rows; reading stops after the position that exceeds `bytes` or `seconds`."""

    points: int = 16
    rows: int = 64
    bytes: int = 32 << 20
    seconds: float = 10.0


@dataclass(slots=True)
class SourceSample:
    """The sampled rows. `rows`: by point, in the form of `tasks.adapters.rows.row_schema`, with null keys if keys are hashes."""

    rows: list[pa.Table] = field(default_factory=list)
    file_bytes: list[list[int]] = field(default_factory=list)  # sizes of image files, by position
    density: list[list[float]] = field(default_factory=list)  # rows per byte, by position, if no footer has row counts
    counted: int = 0  # rows in `covered` bytes
    covered: int = 0
    read: int = 0  # bytes
    faults: list[str] = field(default_factory=list)


def weight_of(span: Span) -> int:
    """Return the rows of a span if known, else its bytes."""
    if span.rows is not None:
        return span.rows
    return span.extent.stop - span.extent.start if isinstance(span.extent, ByteRange) else sum(file.size for file in span.files)


class Sampler:
    """Samples rows of a source.

    Args:
        source: the source to sample.
        fields: scalar fields to fill.
        target: limits the length of a key.
        effort: the limits.
    """

    def __init__(self, source: SourceFiles[Any], fields: tuple[SourceField, ...], target: TargetSettings, effort: Effort) -> None:
        self._source, self._fields, self._target, self._effort = source, fields, target, effort

    def take(self, spans: Iterable[Span], whole: int) -> SourceSample:
        """Sample rows of spans in source order whose total weight is `whole`. Unreadable positions are recorded as faults."""
        sample, deadline = SourceSample(), time.monotonic() + self._effort.seconds
        positions = list(_positions(spans, whole, self._effort))
        # Halves first, then quarters: if a limit ends sampling early, the sample still covers the whole corpus.
        for at in sorted(range(len(positions)), key=lambda at: f"{at:016b}"[::-1]):
            try:
                self._read(*positions[at], sample)
            except KitestringError as error:
                sample.faults.append(str(error))
            if sample.read > self._effort.bytes or time.monotonic() > deadline:
                break
        return sample

    def _read(self, span: Span, points: int, sample: SourceSample) -> None:
        """Read one position, and distribute its rows among the points in it."""
        maker = RowMaker(self._source.config, Shard(id="sample", span=span), self._fields, target=self._target, keyed=False)
        batches: list[pa.RecordBatch] = []
        seen = kept = read = 0
        for chunk in maker.rows(self._source):
            batches.append(chunk.batch)
            seen, kept, read = seen + chunk.seen, kept + chunk.batch.num_rows, read + chunk.batch.nbytes
            enough = kept >= self._effort.rows * points or sample.read + read > self._effort.bytes
            if enough and not isinstance(span.extent, ByteRange):  # byte ranges are read to the end, to count their rows
                break
        sample.read += read
        if span.rows is None:
            self._note_density(span, seen, read, sample)
        elif isinstance(span.extent, Whole) and self._source.config.modality == "image":
            sample.file_bytes.append([file.size for file in span.files])
        if kept:
            sample.rows += _distribute(pa.Table.from_batches(batches), points, self._effort.rows)

    def _note_density(self, span: Span, seen: int, read: int, sample: SourceSample) -> None:
        if isinstance(span.extent, ByteRange):
            rows, covered = seen, span.extent.stop - span.extent.start
        else:
            rows, covered = self._source.rows_in_head(span.files[0], seen=seen, read=read)
        if covered:
            sample.density.append([rows / covered])
            sample.counted, sample.covered = sample.counted + rows, sample.covered + covered


def _positions(spans: Iterable[Span], whole: int, effort: Effort) -> Iterator[tuple[Span, int]]:
    """Yield narrow spans with the number of points in each."""
    step, number, begin = whole / effort.points, 0, 0
    for span in spans:
        weight, within = weight_of(span), []
        while number < effort.points and (number + 0.5) * step < begin + weight:
            within.append(((number + 0.5) * step - begin) / weight)
            number += 1
        yield from Counter(_narrow(span, at, effort.rows * len(within)) for at in within).items()
        begin += weight


def _narrow(span: Span, at: float, rows: int) -> Span:
    """Return the smallest separately readable part of a span around a point, 0 to 1."""
    extent, files = span.extent, span.files
    if isinstance(extent, RowGroups):
        group = extent.start + int(at * (extent.stop - extent.start))
        return Span(files=files, extent=RowGroups(start=group, stop=group + 1), rows=span.rows)
    if isinstance(extent, ByteRange):
        start = extent.start + int(at * (extent.stop - extent.start)) // WINDOW * WINDOW
        return Span(files=files, extent=ByteRange(start=start, stop=min(extent.stop, start + WINDOW)), rows=None)
    return Span(files=files[:: max(1, len(files) // rows)][:rows], extent=Whole(), rows=span.rows)


def _distribute(rows: pa.Table, points: int, most: int) -> list[pa.Table]:
    """Distribute rows evenly among points, at most `most` each."""
    total = min(rows.num_rows, points * most)
    chosen = rows.take(pa.array([at * rows.num_rows // total for at in range(total)]))
    ends = [total * point // points for point in range(points + 1)]
    return [chosen.slice(first, stop - first) for first, stop in pairwise(ends) if stop > first]
