"""The rows of a shard as they go to the encoders: prepared, and where the job says so split into chunks."""

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
    """A shard's rows in the form of `tasks.adapters.rows.row_schema`, in order; what is raised: as by `prepare`.

    Args:
        place: of the host.
        shard: whose rows.
        record: of the encoder, whose tokens measure chunks.
    """
    rows = prepare(place.source, shard, job=place.job, fields=place.spec.fields)
    return split_rows(place, rows, record) if place.job.source.chunking else rows


def split_rows(place: Workplace, rows: Iterator[Prepared], record: EncoderRecord, *, by_document: bool = False) -> Iterator[Prepared]:
    """Prepared rows as chunks; arguments as of `chunk_documents`."""
    chunks = place.job.source.chunking
    assert chunks is not None
    with _OPENING:  # of a large vocabulary it takes a second, and memory: one for all threads
        model = place.model or _located(place.job.encoder)
        _check_tokenizer(model, record)
        splitter = _splitter(chunks, shape_of(place.job.encoder, model), record.facts.max_seq_length)
    return chunk_documents(rows, splitter, place.spec.fields, by_document=by_document)


def _check_tokenizer(model: LocatedModel, record: EncoderRecord) -> None:
    chunks = record.identity.preprocessing.get("chunks")
    if isinstance(chunks, dict) and chunks.get("tokenizer", "") != model.tokenizer_digest:
        raise BadInput(f"encoder.tokenizer: {model.tokenizer} of this machine is not the one that the run began with: make them the same")


@lru_cache(maxsize=1)
def _splitter(chunks: Chunks, shape: ModelShape, limit: int | None) -> ChunkSplitter:
    return ChunkSplitter(chunks, shape, limit)


_located: Callable[..., LocatedModel] = lru_cache(maxsize=1)(locate_model)  # its weights are digested
