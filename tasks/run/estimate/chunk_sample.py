"""Expected chunks for an estimate: a few documents of a sample are split, of long ones only the beginning."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.rows.chunking.documents import utf8_of
from tasks.adapters.rows.chunking.splitter import ChunkSplitter, TooLong
from tasks.adapters.sources.sampling import SourceSample
from tasks.domain.job.texts.chunks import Chunks
from tasks.domain.shards.seal import chunk_bins

DOCUMENTS_A_PLACE = 4  # few, since splitting takes several times as long as counting tokens
SPLIT_HEAD = 16 << 10  # bytes of a document that are split


@dataclass(slots=True)
class ChunkSample:
    """For each place of the sample, a value per split document: its chunks, their tokens, and the tokens that are in two chunks."""

    chunks: list[list[float]] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    overlap_tokens: list[list[float]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Mean number of chunks of a document, at least 1."""
        counts = [count for place in self.chunks for count in place]
        return max(1.0, sum(counts) / max(1, len(counts)))

    @property
    def per_document(self) -> dict[int, int]:
        """Histogram of documents by number of chunks: upper edge of a bin to its count."""
        return chunk_bins(round(count) for place in self.chunks for count in place)


def sample_chunks(chunks: Chunks, shape: ModelShape, sample: SourceSample) -> ChunkSample:
    """Split some documents of a sample.

    Raises:
        BadInput: chunks cannot be made for this model, or their size is known only once the model is loaded.
    """
    splitter, result = ChunkSplitter(chunks, shape, shape.limit), ChunkSample()
    for place in sample.rows:
        split = [_split(splitter, _whole(place.column("text")), at) for at in range(min(DOCUMENTS_A_PLACE, place.num_rows))]
        for values, into in zip(zip(*split, strict=True), (result.chunks, result.tokens, result.overlap_tokens), strict=True):
            into.append(list(values))
    return result


def _split(splitter: ChunkSplitter, texts: pa.Array, at: int) -> tuple[float, float, float]:
    text = utf8_of(texts, at)
    stop = min(SPLIT_HEAD, len(text))
    while stop < len(text) and text[stop] & 0xC0 == 0x80:  # within a character
        stop -= 1
    try:
        spans = splitter.split(text[:stop])
    except TooLong:  # a run quarantines it
        return 0.0, 0.0, 0.0
    whole = len(text) / max(1, stop)
    return len(spans) * whole, sum(spans.tokens) * whole, spans.overlap_tokens * whole


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
