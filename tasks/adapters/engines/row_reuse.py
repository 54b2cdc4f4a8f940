"""Unchanged rows are not encoded again: rows whose content has a vector under this encoder take it over from a part of an earlier shard."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import PartMeta, part_of, write_part
from tasks.adapters.checkpoint.reuse.content_index import ContentIndex
from tasks.adapters.checkpoint.reuse.digest_file import DigestFile
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.object_store.os_errors import writing
from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.content_digests import by_path, content_digests
from tasks.adapters.rows.pieces import PieceRows, part_of_taken
from tasks.adapters.rows.row_schema import TAKEN_VECTOR, part_schema
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.shards.seal import Part
from tasks.domain.shards.shard import Shard


class RowReuse:
    """What a host knows of earlier vectors; many threads may use one.

    Args:
        place: the host's.
    """

    def __init__(self, place: Workplace) -> None:
        self._place, self._lock = place, threading.Lock()
        self._indices: dict[tuple[str, ...], ContentIndex] = {}  # by the encoder's fingerprint and the donors

    def index_for(self, group: ShardGroup, checkpoint: Checkpoint) -> ContentIndex | None:
        """The content of the shards that a group may take vectors from, read once; None: there are none."""
        if not group.donors:
            return None
        of = (group.record.identity.fingerprint, *group.donors)
        with self._lock:
            index = self._indices.get(of)
            if index is None:
                with writing(self._place.scratch):
                    scratch = Path(tempfile.mkdtemp(dir=self._place.scratch, prefix="content-"))
                index = self._indices[of] = ContentIndex(checkpoint, group.donors, scratch, dim=group.record.facts.dim)
            return index

    def store_taken(self, rows: PieceRows, shard: str, key: str, path: Path) -> Part:
        """A part of rows of which every one has a vector: no encoder is needed.

        Raises:
            Permanent, Transient: there is no room in scratch (`path`, which is removed), or what the store raises.
        """
        job, fields = self._place.job, self._place.spec.fields
        schema = part_schema(fields, store_text=job.target.store_text and job.source.modality == "text")
        table = part_of_taken(rows.taken_rows(), shard, schema)
        meta = PartMeta(shard=shard, first=rows.first, stop=rows.stop, reused=table.num_rows)
        try:
            write_part(path, table, meta)
            data = path.read_bytes()
        finally:
            path.unlink(missing_ok=True)
        self._place.store.write(key, data)
        return part_of(key, data, table, meta)


def noting_content(rows: Iterable[Prepared], shard: Shard, digests: DigestFile, index: ContentIndex | None) -> Iterator[Prepared]:
    """The same rows; the digest of each is kept, and where there is an index its vector put beside it, if it has one."""
    files = by_path(shard.span.files)
    for chunk in rows:
        content = content_digests(chunk.batch, files)
        digests.add(chunk.batch, content)
        batch = chunk.batch.append_column(TAKEN_VECTOR, index.vectors_of(content)) if index else chunk.batch
        yield replace(chunk, batch=batch)
