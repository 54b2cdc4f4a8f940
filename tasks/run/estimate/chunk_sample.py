"""What chunks an estimate expects: a few documents of a sample are split, long ones by their beginning."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from tasks.adapters.models.model_metadata import ModelShape
from tasks.adapters.rows.chunking.documents import utf8_of
from tasks.adapters.rows.chunking.splitter import ChunkSplitter, TooLong
from tasks.adapters.sources.sampling import SourceSample
from tasks.domain.job.texts.chunks import Chunks
from tasks.domain.shards.seal import chunk_bins

DOCUMENTS_A_PLACE = 4  # splitting takes several times as long as counting tokens
SPLIT_HEAD = 16 << 10  # bytes of a document that are split


@dataclass(slots=True)
class ChunkSample:
    """Of each document that was split, by the sample's places: its chunks, their tokens, and tokens that are in two of them."""

    chunks: list[list[float]] = field(default_factory=list)
    tokens: list[list[float]] = field(default_factory=list)
    overlap_tokens: list[list[float]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Chunks of a document, at least one."""
        counts = [count for place in self.chunks for count in place]
        return max(1.0, sum(counts) / max(1, len(counts)))

    @property
    def per_document(self) -> dict[int, int]:
        """Documents by their chunks: a bin's upper edge to its count."""
        return chunk_bins(round(count) for place in self.chunks for count in place)


def sample_chunks(chunks: Chunks, shape: ModelShape, sample: SourceSample) -> ChunkSample:
    """Split some documents of a sample.

    Raises:
        BadInput: this model's chunks cannot be made, or only a loaded model tells how large they are.
    """
    splitter, found = ChunkSplitter(chunks, shape, shape.limit), ChunkSample()
    for place in sample.rows:
        split = [_split(splitter, _whole(place.column("text")), at) for at in range(min(DOCUMENTS_A_PLACE, place.num_rows))]
        for values, into in zip(zip(*split, strict=True), (found.chunks, found.tokens, found.overlap_tokens), strict=True):
            into.append(list(values))
    return found


def _split(splitter: ChunkSplitter, texts: pa.Array, at: int) -> tuple[float, float, float]:
    text = utf8_of(texts, at)
    stop = min(SPLIT_HEAD, len(text))
    while stop < len(text) and text[stop] & 0xC0 == 0x80:  # within a character
        stop -= 1
    try:
        spans = splitter.split(text[:stop])
    except TooLong:  # it is set aside
        return 0.0, 0.0, 0.0
    whole = len(text) / max(1, stop)
    return len(spans) * whole, sum(spans.tokens) * whole, spans.overlap_tokens * whole


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
