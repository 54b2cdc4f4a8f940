"""Quarantine: another try at only the rows that were set aside."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.rows.builder import prepare
from tasks.adapters.rows.pieces import PieceRows
from tasks.domain.encoding.protocol import Piece
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.layout import RETRY
from tasks.domain.shards.seal import Part, Quarantined, Seal
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run, utc_now
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan
from tasks.stages.encode import worth_another_try

ROWS_AT_ONCE = 1_000  # in one piece; each row is taken alone


@task(name="retry", task_run_name=name_runs("retry"), cache_policy=NO_CACHE, retry_delay_seconds=5, retry_condition_fn=worth_another_try)
def retry_shards(run: Run, plan: Plan, group: list[Shard]) -> None:
    """Try the quarantined rows of each sealed shard once more; what comes of it is an amendment of the seal."""
    with run.journal.during("encode"):
        for shard in group:
            recover(run, plan, shard)


def recover(run: Run, plan: Plan, shard: Shard) -> None:
    """Try the quarantined rows of a shard, if it is sealed and has any."""
    seal = plan.checkpoint.effective_seal(shard.id)
    if seal and seal.quarantined:
        _amend(run, plan, shard, seal)


def _amend(run: Run, plan: Plan, shard: Shard, seal: Seal) -> None:
    begun = time.monotonic()
    wanted = {row.row for row in seal.quarantined}
    still, readable = _read(run, shard, wanted)
    pieces = [_submit(run, plan, shard, rows) for rows in _pieces(readable)]
    parts = [part.result() for part in pieces]
    still += [row for part in parts for row in part.quarantined]
    tried = set(pc.unique(readable["row"]).to_pylist()) if readable.num_rows else set()
    failed = {row.row for row in still}
    amendment = Amendment(
        shard=shard.id,
        number=len(plan.checkpoint.amendments(shard.id)) + 1,
        run=run.id,
        parts=tuple(parts),
        recovered=tuple(sorted(tried - failed)),
        duplicates=tuple(sorted(wanted - tried - failed)),
        quarantined=tuple(sorted(still, key=lambda row: row.row)),
        seconds=round(time.monotonic() - begun, 3),
        amended_at=utc_now(),
    )
    if amendment.recovered or amendment.duplicates:
        plan.checkpoint.amend(amendment)
        run.journal.note_amendment(shard, len(amendment.recovered))


def _read(run: Run, shard: Shard, wanted: set[int]) -> tuple[list[Quarantined], pa.Table]:
    """Read the shard again: the wanted rows that still cannot be read, and those that can."""
    still: list[Quarantined] = []
    readable: list[pa.RecordBatch] = []
    rows = pa.array(sorted(wanted), pa.int64())
    for chunk in prepare(run.inspected.source, shard, job=run.job, fields=run.inspected.fields):
        still += [row for row in chunk.quarantined if row.row in wanted]
        readable.append(chunk.batch.filter(pc.is_in(chunk.batch.column("row"), rows)))
    return still, pa.Table.from_batches(readable)


def _pieces(readable: pa.Table) -> Iterator[PieceRows]:
    for start in range(0, readable.num_rows, ROWS_AT_ONCE):
        batch = readable.slice(start, ROWS_AT_ONCE).combine_chunks().to_batches()[0]
        rows = batch.column("row")
        piece = PieceRows(first=rows[0].as_py(), stop=rows[-1].as_py() + 1)
        piece.add(batch)
        yield piece


def _submit(run: Run, plan: Plan, shard: Shard, rows: PieceRows) -> Future[Part]:
    path = run.scratch / f"{shard.id}-retry-{rows.first}.arrow"
    rows.write(path)
    key = plan.checkpoint.layout.part(shard.id, f"{RETRY}{run.id}", rows.first, rows.stop)
    alone = tuple(rows.batches[0].column("row").to_pylist())
    part = run.ranks.submit(
        Piece(shard=shard.id, name=shard.name, first=rows.first, stop=rows.stop, rows=str(path), key=key, suspects=alone)
    )
    part.add_done_callback(lambda _: path.unlink(missing_ok=True))
    return part
