"""Keeps documents whole: a shard's parts contain every chunk of a document or none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.part_files import PartMeta, documents_in, part_of, write_part
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.rows.pieces import DocumentTable, Tally
from tasks.domain.shards.layout import RETRY
from tasks.domain.shards.seal import ChunkCounts, Part, Quarantined, chunk_bins
from tasks.domain.target.chunk_fields import split_chunk_key


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledParts:
    """The parts for a seal, the source rows that could not be embedded, and counts of chunks if documents were split."""

    parts: list[Part]
    quarantined: list[Quarantined]
    encoded: int = 0  # source rows that this attempt has encoded
    chunks: ChunkCounts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDocuments:
    """Removes incomplete documents from the parts that an attempt has made of a shard."""

    place: Workplace
    checkpoint: Checkpoint
    shard: str
    attempt: str

    def settle(self, parts: list[Part], made: list[Part], tally: Tally) -> SettledParts:
        """If rows are chunks, remove all chunks of every document that has a failed one.

        Args:
            parts: all parts of the shard.
            made: those that this attempt made.
            tally: the tally of the shard's reader.

        Raises:
            Damaged: a part differs from what was written before.
            Permanent, Transient: scratch or the store refuses a rewritten part.
        """
        if self.place.job.source.chunking is None:
            encoded = sum(part.rows - part.reused for part in made)
            return SettledParts(parts=parts, quarantined=[row for part in parts for row in part.quarantined], encoded=encoded)
        documents = tally.documents or DocumentTable()
        numbers = {row.row: documents.number_at(row.row) for part in parts for row in part.quarantined}
        failed = failed_documents(parts, lambda row: documents.rows[numbers[row]])
        removed = set(numbers.values())
        left = [chunks for number, chunks in enumerate(documents.chunks) if number not in removed]
        counts = ChunkCounts(rows=sum(left), per_document=chunk_bins(left), overlap_tokens=documents.overlap_tokens)
        encoded = len(documents.encoded - removed)
        return SettledParts(parts=self._without(parts, failed), quarantined=list(failed.values()), encoded=encoded, chunks=counts)

    def settle_retried(self, parts: list[Part]) -> SettledParts:
        """The same for parts of a retry, whose rows have the row numbers of their documents."""
        if self.place.job.source.chunking is None:
            return SettledParts(parts=parts, quarantined=[row for part in parts for row in part.quarantined])
        failed = failed_documents(parts, lambda row: row)
        return SettledParts(parts=self._without(parts, failed), quarantined=list(failed.values()))

    def _without(self, parts: list[Part], failed: Iterable[str]) -> list[Part]:
        """The parts without chunks of the failed documents; changed parts are rewritten, under an attempt from which no run adopts parts."""
        documents = pa.array(sorted(failed), pa.string())
        return [self._part_without(part, documents) for part in parts] if len(documents) else parts

    def _part_without(self, part: Part, documents: pa.Array) -> Part:
        table = self.checkpoint.sealed_part(part)
        left = table.filter(pc.invert(pc.is_in(table.column("document"), value_set=documents)))
        if left.num_rows == table.num_rows:
            return part
        meta = PartMeta(
            shard=self.shard,
            first=part.first,
            stop=part.stop,
            quarantined=part.quarantined,
            stats=part.stats,
            reused=min(part.reused, left.num_rows),
            documents=documents_in(left, self.place.spec.fields),
        )
        key = self.checkpoint.layout.part(self.shard, f"{RETRY}whole-{self.attempt}", part.first, part.stop)
        with tempfile.TemporaryDirectory(dir=self.place.scratch, prefix="part-") as folder:
            path = Path(folder) / "part.parquet"
            write_part(path, left, meta)
            data = path.read_bytes()
        self.checkpoint.store.write(key, data)
        return part_of(key, data, left, meta)


def failed_documents(parts: Iterable[Part], row_of: Callable[[int], int]) -> dict[str, Quarantined]:
    """Documents, by key, of which a chunk could not be embedded; the reason names the first such chunk.

    Args:
        parts: parts whose quarantined rows are chunks.
        row_of: returns the source row of the chunk at a position.
    """
    failed: dict[str, Quarantined] = {}
    for chunk in sorted((row for part in parts for row in part.quarantined), key=lambda row: (row.row, split_chunk_key(row.id or "#0")[1])):
        document, number = split_chunk_key(chunk.id or "#0")
        kind, _, detail = chunk.reason.partition(":")
        reason = f"{kind}: chunk {number}" + (f":{detail}" if detail else "")
        failed.setdefault(document, Quarantined(row=row_of(chunk.row), id=document, reason=reason))
    return failed
