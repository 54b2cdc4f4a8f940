"""Estimate of a run's remaining work and its time, storage and cost, from a sample of the rows and the rates of earlier runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.checkpoint.span_file import Spool
from tasks.adapters.models.model_metadata import ModelShape, TokenCounter, shape_of
from tasks.adapters.processes.hardware import launch_for
from tasks.adapters.sources.sampling import Effort, Sampler, SourceSample, weight_of
from tasks.adapters.targets.bm25 import words_of
from tasks.domain.errors import BadInput
from tasks.domain.estimate.estimate import NO_RATE, ChunksExpected, Estimate, Sampled, dollars_of, seconds_of
from tasks.domain.estimate.intervals import Range, at_least_none, exactly, mean_of
from tasks.domain.estimate.rates import Rate, Unit, rate_of, rate_of_parts
from tasks.domain.estimate.storage_size import HASH_KEY, checkpoint_bytes, target_bytes
from tasks.domain.job.credentials import without_credentials
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.shards.shard import Shard
from tasks.run.column_samples import source_notes
from tasks.run.estimate.chunk_sample import ChunkSample, sample_chunks
from tasks.run.estimate.rate_history import read_rates
from tasks.run.plan import Plan
from tasks.run.preflight import Inspected

SEALS = 8  # seals whose timings are read
LONG_OR_SHORT = Range(low=0, expected=0.001, high=0.1)  # rows per byte, if no row could be read
CHUNK_FIELD_BYTES = 24  # bytes of a chunk's number and its position in its document
PACKED_HASH = 20  # bytes of a key of 32 hexadecimal digits after compression


@dataclass(slots=True)
class RemainingWork:
    """The remaining work, in the weights of `tasks.adapters.sources.sampling`."""

    to_encode: int = 0
    to_load: int = 0
    shards: int = 0
    rows_known: bool = True
    sealed: deque[str] = field(default_factory=lambda: deque(maxlen=SEALS))


class Estimator:
    """Estimates the remaining work of one job.

    Args:
        inspected: the job.
        spool: the spans of its source.
        plan: None until the first run of the corpus has loaded the encoder.
        effort: limits of the sampling.
    """

    def __init__(self, inspected: Inspected, spool: Spool, plan: Plan | None, effort: Effort | None = None) -> None:
        self._inspected, self._job, self._spool, self._plan = inspected, inspected.job, spool, plan
        self._effort = effort or Effort()
        self.unit = unit_of(inspected)
        self.sealed: Container[str] = plan.checkpoint.sealed_ids() if plan else ()
        self._loaded: Container[str] = plan.checkpoint.loaded_ids(plan.target) if plan else ()
        self.left = self._weigh()

    def estimate(self) -> Estimate:
        """The estimate of the remaining work, from the sample and the known rates."""
        notes: list[str] = []
        sample, shape, rate = self.sample(self._effort), self._shape(), self._rate()
        counter = TokenCounter(shape) if self.unit == "tokens" and sample.rows else None
        documents, to_load = self._rows(self.left.to_encode, sample, notes), self._rows(self.left.to_load, sample, notes)
        tokens = self._tokens(documents, sample, counter, notes)
        chunks, made, loaded = None, documents, to_load
        if split := self._split(shape, sample, notes):
            made, loaded, tokens = (
                _of(of, values, sample) for of, values in ((documents, split.chunks), (to_load, split.chunks), (documents, split.tokens))
            )
            overlap = _of(documents, split.overlap_tokens, sample)
            chunks = ChunksExpected(rows=made, overlap_tokens=overlap, per_document=split.per_document)
        sealed, served = self._storage(made, loaded, sample, shape, notes, per_document=split.mean if split else 1.0)
        at_most = bool(self.left.to_encode and self._plan and self._plan.donors)
        rows = documents
        if at_most:
            rows, tokens = at_least_none(rows), at_least_none(tokens) if tokens else None
            notes.append("rows whose vector is in an earlier seal are not encoded again; how many those are is not known yet")
        seconds = self._seconds(tokens if self.unit == "tokens" else rows, loaded, rate, notes)
        notes += [f"a place of the sample could not be read and is left out: {without_credentials(fault)}" for fault in sample.faults[:1]]
        price = self._job.report.price_per_hour
        return Estimate(
            rows=rows,
            at_most=at_most,
            tokens=tokens,
            chunks=chunks,
            content_bytes=_times(documents, _content(sample), seen=_seen(sample, documents)),
            rows_to_load=to_load,
            seconds=seconds,
            checkpoint_bytes=sealed,
            target_bytes=served,
            price_per_hour=price,
            cost=dollars_of(seconds, price),
            rate=rate,
            sample=_sampled(sample, counter),
            notes=tuple(dict.fromkeys(notes)),
        )

    def figures(self, estimate: Estimate) -> dict[str, Any]:
        """The JSON document that `plan --json` prints."""
        spool, left, plan = self._spool, self.left, self._plan
        rows = left.to_encode if spool.rows_known or not left.shards else None
        return {
            "corpus": self._job.corpus,
            "rows": {"source": spool.rows if spool.rows_known else None, "to_encode": rows},
            "shards": {"planned": spool.shards, "sealed": spool.shards - left.shards},
            "encoder": plan.record.identity.model_dump(mode="json") if plan else None,
            "collection": plan.spec.name if plan else None,
            "estimate": estimate.model_dump(mode="json"),
            "unread": [some.model_dump() for some in spool.unread],
            "notes": [*source_notes(self._inspected, spool), *map(str, spool.found)],
        }

    def sample(self, effort: Effort) -> SourceSample:
        """Sample rows of unsealed shards; if all are sealed, of shards that are not loaded."""
        done, whole = (self.sealed, self.left.to_encode) if self.left.to_encode else (self._loaded, self.left.to_load)
        if not whole:
            return SourceSample()
        sampler = Sampler(self._inspected.source, self._inspected.fields, self._job.target, effort)
        return sampler.take((shard.span for shard in self._shards() if shard.id not in done), whole)

    def _shards(self) -> Iterator[Shard]:
        return iter(self._plan) if self._plan else self._spool.named("")

    def _weigh(self) -> RemainingWork:
        left = RemainingWork(rows_known=self._spool.rows_known)
        for shard in self._shards():
            weight = weight_of(shard.span)
            if shard.id in self.sealed:
                left.sealed.append(shard.id)
                left.to_load += weight if shard.id not in self._loaded else 0
            else:
                left.to_encode, left.to_load, left.shards = left.to_encode + weight, left.to_load + weight, left.shards + 1
        return left

    def _rows(self, weight: int, sample: SourceSample, notes: list[str]) -> Range:
        """The rows that the files' footers state; if they state none, the sampled rows per byte times all bytes."""
        if self.left.rows_known or not weight:
            return exactly(weight)
        if sample.covered >= weight:
            return exactly(sample.counted)
        notes.append("rows are estimated from bytes, because these files do not state their number")
        if not sample.density:  # nothing could be read
            return exactly(weight) * LONG_OR_SHORT
        return exactly(weight) * mean_of(sample.density, seen=sample.covered / weight)

    def _tokens(self, rows: Range, sample: SourceSample, counter: TokenCounter | None, notes: list[str]) -> Range | None:
        if self.unit == "rows":
            return None
        if counter is None:
            return exactly(0)
        if not counter.name:
            notes.append("tokens are a rough guess, four characters each: the model's folder has no readable tokenizer.json")
        counts = [counter.count(place.column("text").to_pylist()) for place in sample.rows]
        return _times(rows, counts, seen=_seen(sample, rows))

    def _split(self, shape: ModelShape, sample: SourceSample, notes: list[str]) -> ChunkSample | None:
        chunks = self._job.source.chunking
        if chunks is None or not sample.rows:
            return None
        try:
            return sample_chunks(chunks, shape, sample)
        except BadInput as error:
            notes.append(f"chunks are not known: {error}")
            return None

    def _shape(self) -> ModelShape:
        shape = shape_of(self._job.encoder, self._inspected.model)
        if self._plan is None:
            return shape
        facts = self._plan.record.facts
        return ModelShape(dim=facts.dim, limit=facts.max_seq_length, prompt=shape.prompt, tokenizer=shape.tokenizer)

    def _storage(
        self, rows: Range, to_load: Range, sample: SourceSample, shape: ModelShape, notes: list[str], *, per_document: float
    ) -> tuple[Range | None, Range | None]:
        """Bytes in the checkpoint and in Milvus; None if the dimension is not known."""
        if shape.dim is None:
            notes.append("storage is not known: the model's files do not state its dimension, and the model was not loaded yet")
            return None, None
        raw, packed = self._scalars(sample, per_document)
        stored, words, sparse = self._job.target.stored_as, self._words(sample) / per_document, ENCODERS[self._job.encoder.kind].sparse
        how = {"index": stored.index, "vectors": stored.vector_type, "words": words, "sparse": sparse}
        return (
            checkpoint_bytes(rows, dim=shape.dim, scalars=packed, sparse=sparse),
            target_bytes(to_load, dim=shape.dim, scalars=raw, **how),  # type: ignore[arg-type]
        )

    def _words(self, sample: SourceSample) -> float:
        """Mean number of distinct words in a row's text; 0 without full text."""
        if not sample.rows or not self._job.target.stored_as.full_text:
            return 0.0
        texts = [text or "" for place in sample.rows for text in place.column("text").to_pylist()]
        return sum(len(set(words_of(text))) for text in texts) / len(texts)

    def _scalars(self, sample: SourceSample, per_document: float) -> tuple[float, float]:
        """Mean bytes of a row's key, stored text and metadata, raw and compressed. Each chunk has its share of the text."""
        if not sample.rows:
            return 0.0, 0.0
        rows = pa.concat_tables(sample.rows)
        hashed = rows.column("id").null_count == rows.num_rows
        text = ["text"] if "text" in rows.column_names and self._job.target.store_text else []
        stored = rows.select([*([] if hashed else ["id"]), *text, *(f.name for f in self._inspected.fields)])
        raw, packed = stored.nbytes / rows.num_rows, _packed(stored) / rows.num_rows
        if self._job.source.chunking:
            in_other_chunks = sum(stored.column(name).nbytes for name in text) / rows.num_rows * (1 - 1 / per_document)
            raw, packed = raw - in_other_chunks + CHUNK_FIELD_BYTES, packed * (raw - in_other_chunks) / raw
        return raw + HASH_KEY * hashed, packed + PACKED_HASH * hashed

    def _rate(self) -> Rate | None:
        """The rate of earlier runs and dry runs on this kind of machine; otherwise from the timings in the seals."""
        return rate_of(read_rates(self._inspected), self.unit) or self._rate_of_seals()

    def _rate_of_seals(self) -> Rate | None:
        if self._plan is None:
            return None
        seals = [seal for shard in self.left.sealed if (seal := self._plan.checkpoint.read_seal(shard))]
        parts = [part for seal in seals for part in seal.parts]
        amounts = [(part.stats.tokens if self.unit == "tokens" else part.rows, part.stats.encode_seconds) for part in parts]
        return rate_of_parts(amounts, ranks=launch_for(self._job).ranks, unit=self.unit)

    def _seconds(self, amount: Range | None, to_load: Range, rate: Rate | None, notes: list[str]) -> Range | None:
        if rate is None and self.left.to_encode:
            notes.append(f"the time is not known: {NO_RATE}")
        if rate is None or amount is None:
            return None
        if rate.loaded_per_second is None and to_load.high:
            notes.append("the time does not include loading: no run of this corpus has loaded much on this kind of machine yet")
        return seconds_of(amount, rows_to_load=to_load, rate=rate)


def unit_of(inspected: Inspected) -> Unit:
    """The unit of work: tokens if the encoder counts them, otherwise rows."""
    return "tokens" if ENCODERS[inspected.job.encoder.kind].counts_tokens else "rows"


def _times(rows: Range, values: Sequence[Sequence[float]], *, seen: float) -> Range | None:
    """A sum over rows, from values by place of the sample; None if there are rows and no values."""
    if not any(len(place) for place in values):
        return exactly(0) if not rows.high else None
    return rows * mean_of(values, seen=seen)


def _of(rows: Range, values: Sequence[Sequence[float]], sample: SourceSample) -> Range:
    """The sum over all rows, from values of a few documents of the sample."""
    documents = sum(map(len, values))
    return rows * mean_of(values, seen=_seen(sample, rows) * documents / max(1, sum(place.num_rows for place in sample.rows)))


def _seen(sample: SourceSample, rows: Range) -> float:
    return sum(place.num_rows for place in sample.rows) / rows.expected if rows.expected else 1.0


def _content(sample: SourceSample) -> list[list[float]]:
    """Bytes of texts or pictures, by place of the sample; empty if rows only refer to their pictures."""
    if sample.file_bytes:
        return [[float(count) for count in place] for place in sample.file_bytes]
    by_place = []
    for place in sample.rows:
        column = place.column("text" if "text" in place.column_names else "image")
        by_place.append([float(count) for count in pc.binary_length(column).to_pylist() if count is not None])
    return by_place


def _packed(rows: pa.Table) -> int:
    """Bytes of the columns after compression with zstd."""

    def written(table: pa.Table) -> int:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            stream.write_table(table.combine_chunks())
        return int(sink.getvalue().size)

    return max(0, written(rows) - written(rows.slice(0, 0))) if rows.num_columns else 0


def _sampled(sample: SourceSample, counter: TokenCounter | None) -> Sampled:
    rows = sum(place.num_rows for place in sample.rows)
    return Sampled(rows=rows, places=len(sample.rows), bytes=sample.read, tokenizer=counter.name if counter else "")
