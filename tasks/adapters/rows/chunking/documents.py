"""Turns the rows of a shard into chunks of documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.rows.builder import ChunksMade, Prepared
from tasks.adapters.rows.chunking.splitter import ChunkSplitter, Spans, TooLong
from tasks.adapters.rows.row_schema import rows_schema
from tasks.domain.shards.seal import Quarantined
from tasks.domain.target.chunk_fields import chunk_key
from tasks.domain.target.fields import SourceField

CHUNK_BATCH_BYTES, CHUNK_BATCH_ROWS = 4 << 20, 4_096  # limits of a batch of chunks


def chunk_documents(
    prepared: Iterable[Prepared], splitter: ChunkSplitter, fields: tuple[SourceField, ...], *, by_document: bool = False
) -> Iterator[Prepared]:
    """Split rows into chunks, in the form of `rows_schema` with the chunk fields.

    Beside the input rows, memory holds one batch of chunks and the spans of one document.

    Args:
        prepared: rows of a shard, in order.
        splitter: a splitter for the shard's encoder.
        fields: the collection's fields, including those of chunks.
        by_document: `row` is the document's row in the source; otherwise the chunk's position in the shard.
    """
    maker = _ChunkMaker(splitter, rows_schema("text", fields), by_document=by_document)
    for rows in prepared:
        yield from maker.chunks_of(rows)


@dataclass(slots=True)
class _Pending:
    """Chunks of the next batch, column by column; `at`: the input row of each."""

    at: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    chunk: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    bytes: int = 0
    documents: list[tuple[int, int, int]] = field(default_factory=list)
    overlap_tokens: int = 0


class _ChunkMaker:
    """Splits one shard's rows into numbered chunks."""

    def __init__(self, splitter: ChunkSplitter, schema: pa.Schema, *, by_document: bool) -> None:
        self._splitter, self._schema, self._by_document = splitter, schema, by_document
        self._made = count()

    def chunks_of(self, rows: Prepared) -> Iterator[Prepared]:
        """Yield the rows' chunks; the first batch, even if empty, carries the counts of the rows."""
        texts = rows.batch.column("text")
        spans, reasons = self._spans(texts)
        quarantined = [
            Quarantined(row=rows.batch.column("row")[at].as_py(), id=rows.batch.column("id")[at].as_py(), reason=why)
            for at, why in reasons.items()
        ]
        outcome = replace(rows, quarantined=[*rows.quarantined, *quarantined])
        for pending in self._batches(rows.batch, spans):
            made = ChunksMade(rows=len(pending.at), documents=pending.documents, overlap_tokens=pending.overlap_tokens)
            yield replace(outcome, batch=self._batch(rows.batch, pending), chunks=made)
            outcome = replace(outcome, seen=0, quarantined=[], duplicates=0, found=())

    def _spans(self, texts: pa.Array) -> tuple[list[Spans | int], dict[int, str]]:
        """Return the spans of each text's chunks, or its tokens if it is one chunk; and the reasons of texts that cannot be split."""
        short = pc.less_equal(pc.binary_length(texts), self._splitter.longest_chunk)
        spans: list[Spans | int] = list(self._splitter.fits(pc.if_else(short, texts, "").to_pylist()))
        reasons: dict[int, str] = {}
        for at, is_short in enumerate(short.to_pylist()):
            if not is_short or not spans[at]:
                try:
                    spans[at] = self._splitter.split(utf8_of(texts, at))
                except TooLong as error:
                    spans[at], reasons[at] = Spans(), str(error)
        return spans, reasons

    def _batches(self, rows: pa.RecordBatch, spans: list[Spans | int]) -> Iterator[_Pending]:
        numbers, texts = rows.column("row").to_pylist(), rows.column("text")
        pending = _Pending()
        for at, (split, number) in enumerate(zip(spans, numbers, strict=True)):
            chunks = 1 if isinstance(split, int) else len(split)
            for chunk, (start, end, text) in enumerate(_texts(utf8_of(texts, at), split)):
                position = next(self._made)
                if not chunk:
                    pending.documents.append((position, number, chunks))
                    pending.overlap_tokens += 0 if isinstance(split, int) else split.overlap_tokens
                pending.at.append(at)
                pending.row.append(number if self._by_document else position)
                pending.chunk.append(chunk)
                pending.start.append(start)
                pending.end.append(end)
                pending.text.append(text)
                pending.bytes += len(text)
                if pending.bytes >= CHUNK_BATCH_BYTES or len(pending.at) >= CHUNK_BATCH_ROWS:
                    yield pending
                    pending = _Pending()
        yield pending

    def _batch(self, rows: pa.RecordBatch, pending: _Pending) -> pa.RecordBatch:
        at = pa.array(pending.at, pa.int64())
        documents = rows.column("id").take(at)
        keys = [chunk_key(document, chunk) for document, chunk in zip(documents.to_pylist(), pending.chunk, strict=True)]
        made = {
            "row": pa.array(pending.row, pa.int64()),
            "id": pa.array(keys, pa.string()),
            "text": pa.array(pending.text, pa.string()),
            "document": documents,
            "chunk": pa.array(pending.chunk, pa.int64()),
            "start": pa.array(pending.start, pa.int64()),
            "end": pa.array(pending.end, pa.int64()),
        }
        columns = [made[name] if name in made else rows.column(name).take(at) for name in self._schema.names]
        return pa.record_batch(columns, schema=self._schema)


def _texts(text: memoryview, spans: Spans | int) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, text) of each chunk of a document."""
    if isinstance(spans, int):
        whole = str(text, "utf-8")
        yield 0, len(whole), whole
        return
    for at, start in enumerate(spans.starts):
        yield start, spans.stops[at], str(text[spans.first_bytes[at] : spans.stop_bytes[at]], "utf-8")


def utf8_of(texts: pa.StringArray, at: int) -> memoryview:
    """Return the UTF-8 of one non-null text without copying it."""
    _, ends, data = texts.buffers()
    first, stop = memoryview(ends).cast("i")[texts.offset + at : texts.offset + at + 2]
    return memoryview(data)[first:stop]
