"""A document is in the parts of a shard with every chunk, or with none: what holds of rows by themselves, for chunks."""

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
    """Parts as a seal names them, the source's rows that the encoder could not embed, and what documents became, where rows are chunks."""

    parts: list[Part]
    quarantined: list[Quarantined]
    encoded: int = 0  # rows of the source that this attempt has encoded
    chunks: ChunkCounts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDocuments:
    """Settles the parts that an attempt has made of a shard."""

    place: Workplace
    checkpoint: Checkpoint
    shard: str
    attempt: str

    def settle(self, parts: list[Part], made: list[Part], tally: Tally) -> SettledParts:
        """Where rows are chunks, a document of which one failed leaves with all of them.

        Args:
            parts: that hold all that was made of the shard.
            made: those of them that this attempt made.
            tally: of the shard's reader.

        Raises:
            Damaged: a part is not what was written a moment ago.
            Permanent, Transient: scratch or the store refuses what is written anew.
        """
        if self.place.job.source.chunking is None:
            encoded = sum(part.rows - part.reused for part in made)
            return SettledParts(parts=parts, quarantined=[row for part in parts for row in part.quarantined], encoded=encoded)
        documents = tally.documents or DocumentTable()
        numbers = {row.row: documents.number_at(row.row) for part in parts for row in part.quarantined}
        failed = failed_documents(parts, lambda row: documents.rows[numbers[row]])
        gone = set(numbers.values())
        left = [chunks for number, chunks in enumerate(documents.chunks) if number not in gone]
        counts = ChunkCounts(rows=sum(left), per_document=chunk_bins(left), overlap_tokens=documents.overlap_tokens)
        encoded = len(documents.encoded - gone)
        return SettledParts(parts=self._without(parts, failed), quarantined=list(failed.values()), encoded=encoded, chunks=counts)

    def settle_retried(self, parts: list[Part]) -> SettledParts:
        """The same of parts of a retry, whose rows have the numbers of their documents."""
        if self.place.job.source.chunking is None:
            return SettledParts(parts=parts, quarantined=[row for part in parts for row in part.quarantined])
        failed = failed_documents(parts, lambda row: row)
        return SettledParts(parts=self._without(parts, failed), quarantined=list(failed.values()))

    def _without(self, parts: list[Part], failed: Iterable[str]) -> list[Part]:
        """The parts without any chunk of some documents: those that hold one are written anew, under an attempt that no run adopts parts of."""
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
    """By key, the documents of which a chunk could not be embedded; the reason names the first such chunk.

    Args:
        parts: whose quarantined rows are chunks.
        row_of: the source's row of a chunk at a position.
    """
    failed: dict[str, Quarantined] = {}
    for chunk in sorted((row for part in parts for row in part.quarantined), key=lambda row: (row.row, split_chunk_key(row.id or "#0")[1])):
        document, number = split_chunk_key(chunk.id or "#0")
        kind, _, more = chunk.reason.partition(":")
        reason = f"{kind}: chunk {number}" + (f":{more}" if more else "")
        failed.setdefault(document, Quarantined(row=row_of(chunk.row), id=document, reason=reason))
    return failed
