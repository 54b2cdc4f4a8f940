"""Every kind of source behind one door. A new kind: a config in tasks.domain.job.source, a file beside this one, a line here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.adapters.rows.builder import RowMaker
from tasks.adapters.sources.csv import CsvFiles
from tasks.adapters.sources.images import ImageFiles
from tasks.adapters.sources.jsonl import JsonLinesFiles
from tasks.adapters.sources.parquet import ParquetFiles
from tasks.adapters.sources.webdataset import WebDatasetFiles
from tasks.domain import ports
from tasks.domain.job.source import CsvSource, ImagesSource, JsonLinesSource, ParquetSource, Source
from tasks.domain.job.target import TargetSettings
from tasks.domain.shards.shard import Shard

LONG_ROW = 2_000  # bytes
HEAD_SHARDS = 4  # the first may have no row that is good
Opened = ParquetFiles | JsonLinesFiles | CsvFiles | ImageFiles | WebDatasetFiles


def open_source(source: Source, *, rows: int) -> Opened:
    """The files of a source; nothing is read before it is asked.

    Args:
        source: the job's source.
        rows: what a shard aims at.
    """
    if isinstance(source, ParquetSource):
        return ParquetFiles(source, rows=rows)
    if isinstance(source, JsonLinesSource):
        return JsonLinesFiles(source, rows=rows)
    if isinstance(source, CsvSource):
        return CsvFiles(source, rows=rows)
    if isinstance(source, ImagesSource):
        return ImageFiles(source, rows=rows)
    return WebDatasetFiles(source, rows=rows)


def rows_at_least(source: ports.Source) -> int:
    """A lower estimate of a source's rows, from the head of its listing; a row whose file does not tell counts as 2 kB."""
    head = itertools.islice(source.spans(), HEAD_SHARDS)
    return sum(span.rows if span.rows is not None else sum(file.size for file in span.files) // LONG_ROW for span in head)


def sample_texts(source: ports.Source, n: int, *, folder: Path | None = None) -> list[str]:
    """Texts, or places of pictures, of up to `n` good rows from the head of the source.

    Args:
        source: as `open_source` gives it.
        n: how many at most.
        folder: where pictures that are bytes are put as files; without it they are left out.
    """
    if not isinstance(source, Opened):
        raise TypeError("sample_texts takes what open_source gives")
    head = (Shard(id="sample", span=span) for span in itertools.islice(source.spans(), HEAD_SHARDS))
    contents = (content for shard in head for content in _contents(source, shard))
    return list(itertools.islice(_named(contents, folder), n))


def _contents(source: Opened, shard: Shard) -> Iterator[str | bytes]:
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
