"""A sample of a corpus: rows at places that stand at equal distances through it, the same every time.

Distances are counted in rows, or in bytes where no footer has row counts; so a large file is looked at more often than a
small one. The amount read is bounded: some rows at each place, from a row group, a range of bytes, or the beginning of a
file that can only be read from there; and in all so many bytes and seconds.
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

WINDOW = 128 << 10  # bytes of a file of lines that are one place


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much a sample may cost. `points` places of `rows` rows; reading stops after a place that has gone past a bound."""

    points: int = 16
    rows: int = 64
    bytes: int = 32 << 20
    seconds: float = 10.0


@dataclass(slots=True)
class SourceSample:
    """The sampled rows. `rows`: of each point, in the form of `tasks.adapters.rows.row_schema`, keys of hashed content left null."""

    rows: list[pa.Table] = field(default_factory=list)
    file_bytes: list[list[int]] = field(default_factory=list)  # sizes of picture files, by place
    density: list[list[float]] = field(default_factory=list)  # rows for each byte, by place, where no footer has row counts
    counted: int = 0  # rows in `covered` bytes
    covered: int = 0
    read: int = 0  # bytes
    faults: list[str] = field(default_factory=list)


def weight_of(span: Span) -> int:
    """Rows where they are known, else bytes."""
    if span.rows is not None:
        return span.rows
    return span.extent.stop - span.extent.start if isinstance(span.extent, ByteRange) else sum(file.size for file in span.files)


class Sampler:
    """Looks at rows of a source.

    Args:
        source: whose rows they are.
        fields: scalar fields to fill.
        target: how long a key may be.
        effort: the bounds.
    """

    def __init__(self, source: SourceFiles[Any], fields: tuple[SourceField, ...], target: TargetSettings, effort: Effort) -> None:
        self._source, self._fields, self._target, self._effort = source, fields, target, effort

    def take(self, spans: Iterable[Span], whole: int) -> SourceSample:
        """Some rows of spans in source order whose weights come to `whole`. A place that cannot be read is a fault of the sample."""
        sample, deadline = SourceSample(), time.monotonic() + self._effort.seconds
        places = list(_places(spans, whole, self._effort))
        # Halves first, then quarters: where a bound ends it early, the sample is still spread over everything.
        for at in sorted(range(len(places)), key=lambda at: f"{at:016b}"[::-1]):
            try:
                self._look(*places[at], sample)
            except KitestringError as error:
                sample.faults.append(str(error))
            if sample.read > self._effort.bytes or time.monotonic() > deadline:
                break
        return sample

    def _look(self, span: Span, points: int, sample: SourceSample) -> None:
        """Read a place, and share its rows out among the points that fell there."""
        maker = RowMaker(self._source.config, Shard(id="sample", span=span), self._fields, target=self._target, keyed=False)
        found: list[pa.RecordBatch] = []
        seen = held = read = 0
        for chunk in maker.rows(self._source):
            found.append(chunk.batch)
            seen, held, read = seen + chunk.seen, held + chunk.batch.num_rows, read + chunk.batch.nbytes
            enough = held >= self._effort.rows * points or sample.read + read > self._effort.bytes
            if enough and not isinstance(span.extent, ByteRange):  # those are read to their ends, since their rows are counted
                break
        sample.read += read
        if span.rows is None:
            self._note_density(span, seen, read, sample)
        elif isinstance(span.extent, Whole) and self._source.config.modality == "image":
            sample.file_bytes.append([file.size for file in span.files])
        if held:
            sample.rows += _shared(pa.Table.from_batches(found), points, self._effort.rows)

    def _note_density(self, span: Span, seen: int, read: int, sample: SourceSample) -> None:
        if isinstance(span.extent, ByteRange):
            rows, covered = seen, span.extent.stop - span.extent.start
        else:
            rows, covered = self._source.rows_in_head(span.files[0], seen=seen, read=read)
        if covered:
            sample.density.append([rows / covered])
            sample.counted, sample.covered = sample.counted + rows, sample.covered + covered


def _places(spans: Iterable[Span], whole: int, effort: Effort) -> Iterator[tuple[Span, int]]:
    """Narrow spans, and how many of the points fall into each."""
    step, number, begin = whole / effort.points, 0, 0
    for span in spans:
        weight, within = weight_of(span), []
        while number < effort.points and (number + 0.5) * step < begin + weight:
            within.append(((number + 0.5) * step - begin) / weight)
            number += 1
        yield from Counter(_narrow(span, at, effort.rows * len(within)) for at in within).items()
        begin += weight


def _narrow(span: Span, at: float, rows: int) -> Span:
    """The smallest part of a span around a point, 0 to 1, that can be read alone."""
    extent, files = span.extent, span.files
    if isinstance(extent, RowGroups):
        group = extent.start + int(at * (extent.stop - extent.start))
        return Span(files=files, extent=RowGroups(start=group, stop=group + 1), rows=span.rows)
    if isinstance(extent, ByteRange):
        start = extent.start + int(at * (extent.stop - extent.start)) // WINDOW * WINDOW
        return Span(files=files, extent=ByteRange(start=start, stop=min(extent.stop, start + WINDOW)), rows=None)
    return Span(files=files[:: max(1, len(files) // rows)][:rows], extent=Whole(), rows=span.rows)


def _shared(rows: pa.Table, points: int, most: int) -> list[pa.Table]:
    """As many rows for each point, at equal distances."""
    wanted = min(rows.num_rows, points * most)
    chosen = rows.take(pa.array([at * rows.num_rows // wanted for at in range(wanted)]))
    ends = [wanted * point // points for point in range(points + 1)]
    return [chosen.slice(first, stop - first) for first, stop in pairwise(ends) if stop > first]
