"""Rows of a sample as ranks are given them: documents are split first, where a job splits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.chunking.documents import chunk_documents
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.adapters.sources.sampling import SourceSample
from tasks.run.preflight import Inspected

SPLIT_OF_A_SAMPLE = 16 << 20  # of documents of a sample: splitting takes several times as long as reading


def rows_for_ranks(inspected: Inspected, sample: SourceSample) -> pa.Table:
    """All rows of a sample in the form of `tasks.adapters.rows.row_schema`; of documents their chunks, of as many as are split in a moment.

    Raises:
        BadInput: only a loaded model tells how large chunks are.
    """
    chunks = inspected.job.source.chunking
    if chunks is None:
        return pa.concat_tables(sample.rows).combine_chunks()
    shape = shape_of(inspected.job.encoder, inspected.model)
    splitter = ChunkSplitter(chunks, shape, shape.limit)
    made = chunk_documents(_documents(sample.rows), splitter, inspected.collection_fields)
    return pa.Table.from_batches([found.batch for found in made]).combine_chunks()


def _documents(places: Iterable[pa.Table]) -> Iterator[Prepared]:
    left = SPLIT_OF_A_SAMPLE
    for place in places:
        for batch in place.combine_chunks().to_batches():
            if left > 0:
                yield Prepared(batch=batch, seen=batch.num_rows, quarantined=[])
            left -= batch.nbytes
