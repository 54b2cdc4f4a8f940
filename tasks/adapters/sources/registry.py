"""Every kind of source behind one door. A new kind: one file beside this one, and a line in `tasks.domain.job.source.SOURCES`."""

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
HEAD_SHARDS = 4  # the first may have no row that is good


def open_source(source: AnySource, *, rows: int) -> SourceFiles[Any]:
    """The files of a source; nothing is read before it is asked.

    Args:
        source: the job's source.
        rows: what a shard aims at.
    """
    files: type[SourceFiles[Any]] = declared_at(SOURCES[source.kind].files)
    return files(source, rows=rows)


def rows_at_least(source: ports.Source) -> int:
    """A lower estimate of a source's rows, from the head of its listing; rows of files without counts are taken as 2 kB."""
    head = itertools.islice(source.spans(), HEAD_SHARDS)
    return sum(span.rows if span.rows is not None else sum(file.size for file in span.files) // LONG_ROW for span in head)


def sample_texts(source: SourceFiles[Any], n: int, *, folder: Path | None = None) -> list[str]:
    """Texts, or places of pictures, of up to `n` good rows from the head of the source.

    Args:
        source: as `open_source` gives it.
        n: how many at most.
        folder: where pictures that are bytes are put as files; without it they are left out.
    """
    head = (Shard(id="sample", span=span) for span in itertools.islice(source.spans(), HEAD_SHARDS))
    contents = (content for shard in head for content in _contents(source, shard))
    return list(itertools.islice(_named(contents, folder), n))


def _contents(source: SourceFiles[Any], shard: Shard) -> Iterator[str | bytes]:
    """A shard's good rows: texts, places or bytes."""
    for chunk in RowMaker(source.config, shard, (), target=TargetSettings(), keyed=False).rows(source):
        values = [column.to_pylist() for column in chunk.batch.columns[2:]]
        yield from (next(value for value in row if value is not None) for row in zip(*values, strict=True))


def _named(contents: Iterable[str | bytes], folder: Path | None) -> Iterator[str]:
    """Bytes go to files."""
    for number, content in enumerate(contents):
        if isinstance(content, str):
            yield content
        elif folder is not None:
            path = folder / f"sample-{number:04d}"
            path.write_bytes(content)
            yield str(path)
