"""Parquet: shards are row groups, known from the footers; only the wanted columns are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.adapters.columns import check_columns, field_type
from tasks.adapters.files import first_file, hold_still, list_files, open_file, reading, some
from tasks.domain.errors import BadInput
from tasks.domain.fields import FieldType
from tasks.domain.shard import FileVersion, RowGroups, Shard, Span
from tasks.domain.source import ParquetSource

SUFFIXES = (".parquet", ".parq", ".pq")
BATCH_BYTES = 16 << 20  # unpacked
BATCH_ROWS = 8_192
BUFFER = 1 << 20  # bytes in hand for each column
FOOTERS = 8  # read at a time: over a network each costs two round trips


class ParquetFiles:
    """Parquet files below a URI."""

    def __init__(self, config: ParquetSource, *, rows: int) -> None:
        self.config, self.rows = config, rows

    def inspect(self) -> dict[str, FieldType]:
        file = first_file(self.config.uri, SUFFIXES)
        schema = self._footer(file).schema.to_arrow_schema()
        return {field.name: field_type(field.type) for field in schema}

    def spans(self) -> Iterator[Span]:
        files = list_files(self.config.uri, SUFFIXES)
        cut = (span for file, footer in _ahead(files, self._footer) for span in _cut(file, footer, self.rows))
        return some(cut, self.config.uri)

    def read(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        return hold_still(shard.span.files, self._batches(shard))

    def _footer(self, file: FileVersion) -> pq.FileMetaData:
        if file.size == 0:
            raise BadInput(f"{file.path} is not a readable Parquet file: it is empty: replace the file or leave it out")
        with reading(file.path, "Parquet file"), closing(pq.ParquetFile(open_file(file.path))) as parquet:
            check_columns(self.config.columns, parquet.schema_arrow.names, file.path)
            return parquet.metadata

    def _batches(self, shard: Shard) -> Iterator[pa.RecordBatch]:
        [file], extent = shard.span.files, shard.span.extent
        if not isinstance(extent, RowGroups):
            raise TypeError(f"a Parquet shard has row groups, not {extent.kind}")
        columns = self.config.columns
        with reading(file.path, "Parquet file"), closing(_open(file.path)) as parquet:
            for group in range(extent.start, extent.stop):
                size = _batch_rows(parquet.metadata.row_group(group), columns)
                with reading(f"{file.path} row group {group}", "part of a Parquet file"):
                    for batch in parquet.iter_batches(batch_size=size, row_groups=[group], columns=columns, use_threads=False):
                        yield batch.select(columns)  # 'a.b' is also found under 'a'


def _open(path: str) -> pq.ParquetFile:
    """A file whose column chunks are streamed: nothing is read ahead but a buffer for each column."""
    return pq.ParquetFile(open_file(path), buffer_size=BUFFER, pre_buffer=False)


def _batch_rows(group: pq.RowGroupMetaData, columns: list[str]) -> int:
    """Rows that unpack to about BATCH_BYTES."""
    chunks = (group.column(i) for i in range(group.num_columns))
    size: int = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns)
    rows: int = max(1, group.num_rows)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size)))


def _cut(file: FileVersion, footer: pq.FileMetaData, rows: int) -> Iterator[Span]:
    """Consecutive row groups of up to `rows` rows together; a larger group stands alone."""
    start = held = 0
    for group in range(footer.num_row_groups):
        more = footer.row_group(group).num_rows
        if held and held + more > rows:
            yield _span(file, start, group, held)
            start, held = group, 0
        held += more
    if held:
        yield _span(file, start, footer.num_row_groups, held)


def _span(file: FileVersion, start: int, stop: int, rows: int) -> Span:
    return Span(files=(file,), extent=RowGroups(start=start, stop=stop), rows=rows)


def _ahead(files: Iterable[FileVersion], read: Callable[[FileVersion], pq.FileMetaData]) -> Iterator[tuple[FileVersion, pq.FileMetaData]]:
    """Footers in order, some read ahead."""
    waiting: deque[tuple[FileVersion, Future[pq.FileMetaData]]] = deque()
    with ThreadPoolExecutor(FOOTERS) as pool:
        for file in files:
            waiting.append((file, pool.submit(read, file)))
            if len(waiting) > 2 * FOOTERS:
                first, footer = waiting.popleft()
                yield first, footer.result()
        while waiting:
            first, footer = waiting.popleft()
            yield first, footer.result()
