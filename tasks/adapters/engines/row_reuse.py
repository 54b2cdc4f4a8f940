"""Reuses vectors of unchanged rows: a row with the same content under the same encoder takes its vector from a part of an earlier shard."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.cache.registry import open_cache
from tasks.adapters.cache.vector_cache import VectorCache
from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import PartMeta, documents_in, part_of, part_vectors, write_part
from tasks.adapters.checkpoint.reuse.content_index import ContentIndex, vector_lists
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.object_store.os_errors import writing
from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.content_digests import content_digests, known_elsewhere
from tasks.adapters.rows.pieces import PieceRows, part_of_taken
from tasks.adapters.rows.row_lengths import as_column, stats_of_lengths
from tasks.adapters.rows.row_schema import CACHED, ROW_DIGEST, ROW_LENGTHS, TAKEN_VECTOR, part_schema
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.shards.seal import Part
from tasks.domain.shards.shard import Shard

SECONDS_IN_A_DAY = 86_400
VECTORS_AT_ONCE = 4 << 20  # bytes


class RowReuse:
    """A host's indices and caches of earlier vectors; thread-safe.

    Args:
        place: the host's workplace.
    """

    def __init__(self, place: Workplace) -> None:
        self._place, self._lock = place, threading.Lock()
        self._caches: dict[str, VectorCache] = {}  # by the encoder's `shared_as`
        self._indices: dict[tuple[str, ...], ContentIndex] = {}  # by the encoder's fingerprint and the donors

    def index_for(self, group: ShardGroup, checkpoint: Checkpoint) -> ContentIndex | None:
        """The index of the shards that a group may take vectors from, built once; None: there are none."""
        if not group.donors:
            return None
        key = (group.record.identity.fingerprint, *group.donors)
        with self._lock:
            index = self._indices.get(key)
            if index is None:
                with writing(self._place.scratch):
                    scratch = Path(tempfile.mkdtemp(dir=self._place.scratch, prefix="content-"))
                record, sparse = group.record, ENCODERS[self._place.job.encoder.kind].sparse
                index = self._indices[key] = ContentIndex(checkpoint, group.donors, scratch, dim=record.facts.dim, sparse=sparse)
            return index

    def cache_for(self, group: ShardGroup) -> VectorCache | None:
        """The job's vector cache for the group's encoder; None: the job has none, or this is a dry run.

        Raises:
            BadInput: the cache cannot be opened on this machine.
        """
        settings, record = self._place.job.cache, group.record
        if settings is None or self._place.spec.dry:
            return None
        with self._lock:
            shared_as = record.shared_as
            if shared_as not in self._caches:
                seconds = max(1, int(settings.ttl_days * SECONDS_IN_A_DAY))
                self._caches[shared_as] = VectorCache(
                    open_cache(settings), shared_as, dim=record.facts.dim, ttl_seconds=seconds, deadline=settings.deadline_ms / 1_000
                )
            return self._caches[shared_as]

    def store_taken(self, rows: PieceRows, shard: str, key: str, path: Path) -> Part:
        """Write a part of rows that all have a vector already, without an encoder.

        Raises:
            Permanent, Transient: scratch is full (`path`, which is removed), or the store refuses the part.
        """
        job, fields = self._place.job, self._place.spec.fields
        schema = part_schema(
            fields, store_text=job.target.store_text and job.source.modality == "text", sparse=ENCODERS[job.encoder.kind].sparse
        )
        table = part_of_taken(rows.taken_rows(), shard, schema)
        counts = {"stats": stats_of_lengths(table), "reused": table.num_rows, "documents": documents_in(table, fields)}
        meta = PartMeta(shard=shard, first=rows.first, stop=rows.stop, **counts)
        try:
            write_part(path, table, meta)
            self._place.store.write(key, path)
            return part_of(key, path, table, meta)
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Write pending vectors to the caches, for some seconds at most, and close them."""
        for cache in self._caches.values():
            cache.close()


def keep_vectors(cache: VectorCache, checkpoint: Checkpoint, missed: Mapping[str, bytes], part: Future[Part]) -> None:
    """Queue the vectors of a finished part for the cache.

    Args:
        cache: where to put them.
        checkpoint: that has the part.
        missed: content digests, by key, of the part's rows that the cache did not have.
        part: the part's future; one that failed is ignored.
    """
    if missed and not part.cancelled() and part.exception() is None:
        cache.fill_later(partial(_vectors_by_digest, checkpoint, part.result(), missed))


def noting_content(
    rows: Iterable[Prepared], shard: Shard, digests: DigestFile, index: ContentIndex | None, cache: VectorCache | None = None
) -> Iterator[Prepared]:
    """Pass rows through; records the digest of each, and adds its vector if the index, or else the cache, has one."""
    files, most, begin = shard.known_files, _rows_at_once(index, cache), 0
    for whole in rows:
        content = content_digests(whole.batch, files)
        digests.add(whole.batch, content)
        at = 0
        for chunk in whole.in_slices(most, begin=begin):
            chunk_content = content.slice(at, chunk.batch.num_rows)
            at += len(chunk_content)
            batch = _with_taken(chunk.batch, chunk_content, index) if index else chunk.batch
            yield replace(chunk, batch=_with_cached(batch, known_elsewhere(chunk_content, chunk.batch, files), cache) if cache else batch)
        begin += whole.made


def _rows_at_once(index: ContentIndex | None, cache: VectorCache | None) -> int:
    """Rows to add vectors to at a time. Bounds memory: batches of a source are bounded by text, and a vector may be larger than its text."""
    size = max(index.vector_bytes if index else 0, 4 * cache.dim if cache else 0)
    return max(1, VECTORS_AT_ONCE // size) if size else sys.maxsize


def _with_taken(batch: pa.RecordBatch, content: pa.Array, index: ContentIndex) -> pa.RecordBatch:
    """The rows with the vectors and lengths that the index has."""
    vectors, lengths = index.taken(content)
    return batch.append_column(TAKEN_VECTOR, vectors).append_column(ROW_LENGTHS, as_column(lengths))


def _with_cached(batch: pa.RecordBatch, content: pa.Array, cache: VectorCache) -> pa.RecordBatch:
    """The rows, with vectors from the cache for those that have none yet."""
    taken = batch.column(TAKEN_VECTOR) if TAKEN_VECTOR in batch.schema.names else pa.nulls(len(content), pa.list_(pa.float32()))
    missing = np.flatnonzero(pc.and_(pc.is_null(taken), pc.is_valid(content)).to_numpy(zero_copy_only=False))
    hits = cache.vectors_of(content.take(pa.array(missing)).to_pylist())
    valid, cached = taken.is_valid().to_numpy(zero_copy_only=False), np.zeros(len(content), dtype=bool)
    vectors = np.zeros((len(content), cache.dim), np.float32)
    vectors[valid] = taken.drop_null().flatten().to_numpy().reshape(-1, cache.dim)
    for at, vector in hits.items():
        vectors[missing[at]], cached[missing[at]] = vector, True
    columns = {TAKEN_VECTOR: vector_lists(vectors, valid | cached), CACHED: pa.array(cached), ROW_DIGEST: content}
    others = {name: batch.column(name) for name in batch.schema.names}
    return pa.record_batch({**others, **columns})


def _vectors_by_digest(checkpoint: Checkpoint, part: Part, missed: Mapping[str, bytes]) -> dict[bytes, np.ndarray]:
    """Vectors, by content digest, of a part's rows that the cache did not have."""
    table = checkpoint.sealed_part(part)
    vectors = part_vectors(table)
    return {missed[key]: vectors[at] for at, key in enumerate(table.column("id").to_pylist()) if key in missed}
