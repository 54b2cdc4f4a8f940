"""Rows of a shard as chunks of documents."""

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

CHUNK_BATCH_BYTES, CHUNK_BATCH_ROWS = 4 << 20, 4_096  # of chunks that are handed on at a time


def chunk_documents(
    prepared: Iterable[Prepared], splitter: ChunkSplitter, fields: tuple[SourceField, ...], *, by_document: bool = False
) -> Iterator[Prepared]:
    """Rows as chunks, in the form of `rows_schema` with the fields of chunks.

    Beside the rows that are given, memory holds a batch of chunks and where those of one document are.

    Args:
        prepared: rows of a shard, in order.
        splitter: made for the shard's encoder.
        fields: of the chunks, as the collection has them.
        by_document: `row` is the document's row in the source; otherwise the chunk's position among those of the shard.
    """
    maker = _ChunkMaker(splitter, rows_schema("text", fields), by_document=by_document)
    for rows in prepared:
        yield from maker.chunks_of(rows)


@dataclass(slots=True)
class _Pending:
    """Chunks that are not handed on yet, column by column; `at`: which row of the batch each is of."""

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
    """Makes chunks of one shard's rows, and numbers them."""

    def __init__(self, splitter: ChunkSplitter, schema: pa.Schema, *, by_document: bool) -> None:
        self._splitter, self._schema, self._by_document = splitter, schema, by_document
        self._made = count()

    def chunks_of(self, rows: Prepared) -> Iterator[Prepared]:
        """The rows' chunks; the first batch tells what became of the rows, and is there even if it is empty."""
        texts = rows.batch.column("text")
        spans, reasons = self._spans(texts)
        aside = [
            Quarantined(row=rows.batch.column("row")[at].as_py(), id=rows.batch.column("id")[at].as_py(), reason=why)
            for at, why in reasons.items()
        ]
        told = replace(rows, quarantined=[*rows.quarantined, *aside])
        for pending in self._batches(rows.batch, spans):
            made = ChunksMade(rows=len(pending.at), documents=pending.documents, overlap_tokens=pending.overlap_tokens)
            yield replace(told, batch=self._batch(rows.batch, pending), chunks=made)
            told = replace(told, seen=0, quarantined=[], duplicates=0, found=())

    def _spans(self, texts: pa.Array) -> tuple[list[Spans | int], dict[int, str]]:
        """Where the chunks of each text are, or the tokens of one that is a chunk as it is; and why some cannot be split, which have none."""
        short = pc.less_equal(pc.binary_length(texts), self._splitter.longest_chunk)
        found: list[Spans | int] = list(self._splitter.fits(pc.if_else(short, texts, "").to_pylist()))
        reasons: dict[int, str] = {}
        for at, is_short in enumerate(short.to_pylist()):
            if not is_short or not found[at]:
                try:
                    found[at] = self._splitter.split(utf8_of(texts, at))
                except TooLong as error:
                    found[at], reasons[at] = Spans(), str(error)
        return found, reasons

    def _batches(self, rows: pa.RecordBatch, spans: list[Spans | int]) -> Iterator[_Pending]:
        numbers, texts = rows.column("row").to_pylist(), rows.column("text")
        pending = _Pending()
        for at, (found, number) in enumerate(zip(spans, numbers, strict=True)):
            chunks = 1 if isinstance(found, int) else len(found)
            for chunk, (start, end, text) in enumerate(_texts(utf8_of(texts, at), found)):
                position = next(self._made)
                if not chunk:
                    pending.documents.append((position, number, chunks))
                    pending.overlap_tokens += 0 if isinstance(found, int) else found.overlap_tokens
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
    """(start, end, text) of each chunk of a document."""
    if isinstance(spans, int):
        whole = str(text, "utf-8")
        yield 0, len(whole), whole
        return
    for at, start in enumerate(spans.starts):
        yield start, spans.stops[at], str(text[spans.first_bytes[at] : spans.stop_bytes[at]], "utf-8")


def utf8_of(texts: pa.StringArray, at: int) -> memoryview:
    """The UTF-8 of one text that is no null, not copied as a scalar of it would be."""
    _, ends, data = texts.buffers()
    first, stop = memoryview(ends).cast("i")[texts.offset + at : texts.offset + at + 2]
    return memoryview(data)[first:stop]
