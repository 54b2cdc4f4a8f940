"""Opens sources of every kind. A new kind needs one file in this package and a line in `tasks.domain.job.source.SOURCES`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.adapters.rows.builder import RowMaker
from tasks.adapters.sources.source_files import SourceFiles
from tasks.domain import ports
from tasks.domain.job.kinds import declared_at
from tasks.domain.job.source import SOURCES, AnySource
from tasks.domain.job.target import TargetSettings
from tasks.domain.shards.shard import Shard

LONG_ROW = 2_000  # bytes
HEAD_SHARDS = 4  # the first may have no valid row


def open_source(source: AnySource, *, rows: int, own: tuple[str, ...] = ()) -> SourceFiles[Any]:
    """Open a source without reading anything yet.

    Args:
        source: the job's source.
        rows: target size of a shard.
        own: paths and URIs of the job's checkpoint and collection; Kitestring's own files there are left out of listings.
    """
    files: type[SourceFiles[Any]] = declared_at(SOURCES[source.kind].files)
    opened = files(source, rows=rows)
    opened.own = own
    return opened


def rows_at_least(source: ports.Source) -> int:
    """Estimate a lower bound of a source's rows from the head of its listing, assuming 2 kB a row for files without counts."""
    head = itertools.islice(source.spans(), HEAD_SHARDS)
    return sum(span.rows if span.rows is not None else sum(file.size for file in span.files) // LONG_ROW for span in head)


def sample_texts(source: SourceFiles[Any], n: int, *, folder: Path | None = None) -> list[str]:
    """Return texts or image locations of up to `n` valid rows from the head of the source.

    Args:
        source: from `open_source`.
        n: maximum number of rows.
        folder: for images that are bytes, which are written to files there; without it they are skipped.
    """
    head = (Shard(id="sample", span=span) for span in itertools.islice(source.spans(), HEAD_SHARDS))
    contents = (content for shard in head for content in _contents(source, shard))
    return list(itertools.islice(_as_texts(contents, folder), n))


def _contents(source: SourceFiles[Any], shard: Shard) -> Iterator[str | bytes]:
    """Yield the contents of a shard's valid rows: texts, locations or bytes."""
    for chunk in RowMaker(source.config, shard, (), target=TargetSettings(), keyed=False).rows(source):
        values = [column.to_pylist() for column in chunk.batch.columns[2:]]
        yield from (next(value for value in row if value is not None) for row in zip(*values, strict=True))


def _as_texts(contents: Iterable[str | bytes], folder: Path | None) -> Iterator[str]:
    """Yield texts and locations; writes bytes to files and yields their paths."""
    for number, content in enumerate(contents):
        if isinstance(content, str):
            yield content
        elif folder is not None:
            path = folder / f"sample-{number:04d}"
            path.write_bytes(content)
            yield str(path)
