"""Rows of a sample in the form that ranks receive: documents are split first if the job splits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.chunking.documents import chunk_documents
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.adapters.sources.sampling import SourceSample
from tasks.run.preflight import Inspected

SPLIT_OF_A_SAMPLE = 16 << 20  # bytes of documents that are split: splitting takes several times as long as reading


def rows_for_ranks(inspected: Inspected, sample: SourceSample) -> pa.Table:
    """All rows of a sample in the form of `tasks.adapters.rows.row_schema`; of documents, the chunks of the first 16 MiB.

    Raises:
        BadInput: the size of chunks is known only once the model is loaded.
    """
    chunks = inspected.job.source.chunking
    if chunks is None:
        return pa.concat_tables(sample.rows).combine_chunks()
    shape = shape_of(inspected.job.encoder, inspected.model)
    splitter = ChunkSplitter(chunks, shape, shape.limit)
    made = chunk_documents(_documents(sample.rows), splitter, inspected.collection_fields)
    return pa.Table.from_batches([prepared.batch for prepared in made]).combine_chunks()


def _documents(places: Iterable[pa.Table]) -> Iterator[Prepared]:
    left = SPLIT_OF_A_SAMPLE
    for place in places:
        for batch in place.combine_chunks().to_batches():
            if left > 0:
                yield Prepared(batch=batch, seen=batch.num_rows, quarantined=[])
            left -= batch.nbytes
