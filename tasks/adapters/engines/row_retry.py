"""Retries only the quarantined rows of sealed shards; records recovered rows as an amendment of the seal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.engines.documents.shard_rows import split_rows
from tasks.adapters.engines.documents.whole_documents import WholeDocuments
from tasks.adapters.engines.group_encoder import for_good, wait_for
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.rows.builder import Prepared, prepare
from tasks.adapters.rows.pieces import PieceRows
from tasks.domain.encoding.encoding_events import ShardAmended, failure_of
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.encoding.protocol import Piece
from tasks.domain.errors import Permanent
from tasks.domain.ports import Encoders
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.layout import RETRY
from tasks.domain.shards.seal import Part, Quarantined, Seal
from tasks.domain.shards.shard import Shard

ROWS_AT_ONCE = 1_000  # in one piece; each row is encoded alone


class RowRetry:
    """Retries the quarantined rows of one group's shards; for the arguments see `GroupEncoder`."""

    def __init__(self, place: Workplace, encoders: Encoders, checkpoint: Checkpoint, group: ShardGroup) -> None:
        self._place, self._encoders, self._checkpoint, self._group = place, encoders, checkpoint, group

    def run(self) -> list[Permanent]:
        """Retry the rows; return the errors of the shards that failed permanently, each reported as an event.

        Raises:
            Transient, OutcomeUnknown: a temporary fault; by then no work of this attempt is running.
        """
        failures: list[Permanent] = []
        for shard in self._group.shards:
            try:
                seal = self._checkpoint.effective_seal(shard.id)
                if seal and seal.quarantined:
                    self._amend(shard, seal)
            except Exception as error:  # noqa: BLE001 - `for_good` raises what is temporary
                failures.append(failed := for_good(error))
                self._place.tell(failure_of(shard, failed))
        return failures

    def _amend(self, shard: Shard, seal: Seal) -> None:
        begun = time.monotonic()
        quarantined = {row.row: row for row in seal.quarantined}
        still, readable = self._read(shard, quarantined)
        if self._place.job.source.chunking and readable.num_rows:
            cannot_be_split, readable = self._split(readable)
            still += cannot_be_split
        parts = self._encode(shard, readable)
        attempt = f"{RETRY}{self._group.attempt}"
        settled = WholeDocuments(place=self._place, checkpoint=self._checkpoint, shard=shard.id, attempt=attempt).settle_retried(parts)
        still += settled.quarantined
        tried = set(pc.unique(readable["row"]).to_pylist()) if readable.num_rows else set()
        failed = {row.row for row in still}
        amendment = Amendment(
            shard=shard.id,
            number=len(self._checkpoint.amendments(shard.id)) + 1,
            run=self._place.spec.run,
            parts=tuple(settled.parts),
            recovered=tuple(sorted(tried - failed)),
            duplicates=tuple(sorted(quarantined.keys() - tried - failed)),
            quarantined=tuple(sorted(still, key=lambda row: row.row)),
            seconds=round(time.monotonic() - begun, 3),
            amended_at=utc_now(),
        )
        if amendment.recovered or amendment.duplicates:
            self._checkpoint.amend(amendment)
            self._place.tell(ShardAmended(shard=shard.id, recovered=len(amendment.recovered)))

    def _split(self, readable: pa.Table) -> tuple[list[Quarantined], pa.Table]:
        """Split documents into chunks, each with the row number of its document; also return the documents that cannot be split."""
        rows = (Prepared(batch=batch, seen=batch.num_rows, quarantined=[]) for batch in readable.to_batches())
        batches = list(split_rows(self._place, rows, self._group.record, by_document=True))
        return [row for chunks in batches for row in chunks.quarantined], pa.Table.from_batches([chunks.batch for chunks in batches])

    def _read(self, shard: Shard, quarantined: dict[int, Quarantined]) -> tuple[list[Quarantined], pa.Table]:
        """Read the shard again; return the quarantined rows that still cannot be read, and those that can.

        Versions of Kitestring join a tar's samples differently and so number rows differently: a row with another key stays quarantined.
        """
        seen = 0
        still: list[Quarantined] = []
        readable: list[pa.RecordBatch] = []
        numbers = pa.array(sorted(quarantined), pa.int64())
        for chunk in prepare(self._place.source, shard, job=self._place.job, fields=self._place.spec.fields):
            still += [row for row in chunk.quarantined if row.row in quarantined]
            seen += chunk.seen
            readable.append(chunk.batch.filter(pc.is_in(chunk.batch.column("row"), numbers)))
        rows = pa.Table.from_batches(readable)
        ids = zip(rows["row"].to_pylist(), rows["id"].to_pylist(), strict=True)
        counted = self._place.job.source.named is None  # the reader numbers rows itself: a number may be another row now
        others = {row for row, key in ids if counted and quarantined[row].id not in {None, key}}
        others |= {row for row in quarantined if row >= seen}
        still += [quarantined[row] for row in others]
        return still, rows.filter(pc.invert(pc.is_in(rows["row"], pa.array(sorted(others), pa.int64()))))

    def _encode(self, shard: Shard, readable: pa.Table) -> list[Part]:
        parts: list[Future[Part]] = []
        try:
            for rows in _pieces(readable):
                parts.append(self._submit(shard, rows))  # noqa: PERF401 - if one raises, those before it are waited for
        finally:
            wait_for(parts)
        return [part.result() for part in parts]

    def _submit(self, shard: Shard, rows: PieceRows) -> Future[Part]:
        path = self._place.scratch / f"{shard.id}-retry-{rows.first}.arrow"
        rows.write(path)
        key = self._checkpoint.layout.part(shard.id, f"{RETRY}{self._group.attempt}", rows.first, rows.stop)
        alone = tuple(rows.batches[0].column("row").to_pylist())
        part = self._encoders.submit(
            Piece(shard=shard.id, name=shard.name, first=rows.first, stop=rows.stop, rows=str(path), key=key, suspects=alone)
        )
        part.add_done_callback(lambda _: path.unlink(missing_ok=True))
        return part


def _pieces(readable: pa.Table) -> Iterator[PieceRows]:
    """Cut rows into pieces; chunks of a document, which share a row number, stay in one piece."""
    numbers = readable["row"].to_numpy()
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)] if len(numbers) else [0]
    start = 0
    for border, following in pairwise([*borders, borders[-1] + ROWS_AT_ONCE + 1]):
        if following - start <= ROWS_AT_ONCE or border == start:
            continue
        batch = readable.slice(start, border - start).combine_chunks().to_batches()[0]
        start = border
        rows = batch.column("row")
        piece = PieceRows(first=rows[0].as_py(), stop=rows[-1].as_py() + 1)
        piece.add(batch)
        yield piece
