"""Reads the rows of a shard for the encoders: prepared, and split into chunks if the job says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import lru_cache

from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.models.model_files import LocatedModel, locate_model
from tasks.adapters.models.model_metadata import ModelShape, shape_of
from tasks.adapters.rows.builder import Prepared, prepare
from tasks.adapters.rows.chunking.documents import chunk_documents
from tasks.adapters.rows.chunking.splitter import ChunkSplitter
from tasks.domain.encoder_identity import EncoderRecord
from tasks.domain.errors import BadInput
from tasks.domain.job.texts.chunks import Chunks
from tasks.domain.shards.shard import Shard

_OPENING = threading.Lock()


def shard_rows(place: Workplace, shard: Shard, record: EncoderRecord) -> Iterator[Prepared]:
    """A shard's rows in the form of `tasks.adapters.rows.row_schema`, in order; raises the same errors as `prepare`.

    Args:
        place: the host's workplace.
        shard: the shard to read.
        record: the encoder's record; its tokens measure chunks.
    """
    rows = prepare(place.source, shard, job=place.job, fields=place.spec.fields)
    return split_rows(place, rows, record) if place.job.source.chunking else rows


def split_rows(place: Workplace, rows: Iterator[Prepared], record: EncoderRecord, *, by_document: bool = False) -> Iterator[Prepared]:
    """Split prepared rows into chunks; for the arguments see `chunk_documents`."""
    chunks = place.job.source.chunking
    assert chunks is not None
    with _OPENING:  # a tokenizer with a large vocabulary takes a second to open, and memory: all threads share one
        model = place.model or _located(place.job.encoder)
        _check_tokenizer(model, record)
        splitter = _splitter(chunks, shape_of(place.job.encoder, model), record.facts.max_seq_length)
    return chunk_documents(rows, splitter, place.spec.fields, by_document=by_document)


def _check_tokenizer(model: LocatedModel, record: EncoderRecord) -> None:
    chunks = record.identity.preprocessing.get("chunks")
    if isinstance(chunks, dict) and chunks.get("tokenizer", "") != model.tokenizer_digest:
        raise BadInput(
            f"encoder.tokenizer: {model.tokenizer} on this machine differs from the one that the run began with: make them the same"
        )


@lru_cache(maxsize=1)
def _splitter(chunks: Chunks, shape: ModelShape, limit: int | None) -> ChunkSplitter:
    return ChunkSplitter(chunks, shape, limit)


_located: Callable[..., LocatedModel] = lru_cache(maxsize=1)(locate_model)  # cached, since it digests the weights
