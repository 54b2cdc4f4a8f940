"""Encode: the rows of a shard go through the ranks and come to rest as sealed parts."""

from __future__ import annotations

import secrets
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from tasks.adapters.rows.builder import prepare
from tasks.adapters.rows.pieces import PieceRows, Tally, cut
from tasks.domain.encoding.protocol import Piece
from tasks.domain.errors import BadInput, KitestringError, OutcomeUnknown, Permanent, Transient
from tasks.domain.shards.row_accounting import check_accounts
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run, utc_now
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan


@dataclass(slots=True, kw_only=True)
class _Open:
    """A shard whose rows are on their way."""

    shard: Shard
    attempt: str
    begun: float
    adopted: list[Part]
    tally: Tally = field(default_factory=Tally)
    parts: list[Future[Part]] = field(default_factory=list)


def worth_another_try(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect retries a task only after a passing fault. A plain function: a bound one never retries."""
    return isinstance(state.result(raise_on_failure=False), Transient | OutcomeUnknown)


@task(
    name="encode",
    task_run_name=name_runs("encode"),
    cache_policy=NO_CACHE,
    retry_delay_seconds=5,
    retry_condition_fn=worth_another_try,
)
def encode_shards(run: Run, plan: Plan, group: list[Shard]) -> None:
    """Seal every shard of a group that is not sealed yet. One that cannot be sealed does not stop the others.

    Raises:
        Permanent: a shard failed for good; the first of them, after all others are sealed.
        Transient: something passing; sealed shards stay sealed when it is tried again.
    """
    with run.journal.during("encode"), run.journal.telling(group):
        for shard, error in _seal_all(run, plan, group):
            run.journal.note_failure(shard, error)
    first = next((run.journal.failed[s.id] for s in group if s.id in run.journal.failed), None)
    if first:
        raise Permanent(f"{first[0]}: {first[1]}")


def seal_again(run: Run, plan: Plan, shard: Shard) -> None:
    """Encode what is missing of a shard whose seal was withdrawn, and seal it.

    Under an attempt of its own: a key that was sealed or condemned once is never used again (see `tasks.adapters.checkpoint.condemned`).

    Raises:
        Permanent: it cannot be sealed.
    """
    for _, error in _seal_all(run, plan, [shard], attempt=f"{run.id}-{secrets.token_hex(4)}"):
        raise error


def _seal_all(run: Run, plan: Plan, group: list[Shard], *, attempt: str = "") -> list[tuple[Shard, Permanent]]:
    """Read ahead while earlier shards are still being encoded; seal each as soon as its parts are there."""
    failures: list[tuple[Shard, Permanent]] = []
    opened: deque[_Open] = deque()
    try:
        for shard in group:
            try:
                opened += _read_unsealed(run, plan, shard, attempt or run.id)
            except Permanent as error:
                failures += _failed(run, plan, shard, error)
            while opened and all(part.done() for part in opened[0].parts):
                failures += _seal_or_discard(run, plan, opened.popleft())
        while opened:
            failures += _seal_or_discard(run, plan, opened.popleft())
    finally:  # who tries again must not meet pieces of the first try that are still under way
        for waiting in opened:
            _wait_for(waiting.parts)
    return failures


def _read_unsealed(run: Run, plan: Plan, shard: Shard, attempt: str) -> list[_Open]:
    sealed = plan.checkpoint.read_seal(shard.id)
    if sealed is None:
        return [_read(run, plan, shard, attempt)]
    run.ranks.pace.given(sealed.source_rows)
    if shard.id not in run.journal.sealed:  # not one that this run sealed before
        run.journal.note_reuse(sealed)
    return []


def _seal_or_discard(run: Run, plan: Plan, opened: _Open) -> list[tuple[Shard, Permanent]]:
    try:
        _seal(run, plan, opened)
    except Permanent as error:
        return _failed(run, plan, opened.shard, error)
    return []


def _read(run: Run, plan: Plan, shard: Shard, attempt: str) -> _Open:
    """Hand every row that no finished part holds to the ranks."""
    job = run.job
    opened = _Open(shard=shard, attempt=attempt, begun=time.monotonic(), adopted=plan.checkpoint.adoptable(shard.id))
    covered = [(part.first, part.stop) for part in opened.adopted]
    run.ranks.pace.given(sum(stop - first for first, stop in covered))
    rows = prepare(run.inspected.source, shard, job=job, fields=run.inspected.fields)
    try:
        for piece in cut(rows, opened.tally, covered=covered, piece_rows=lambda: _piece_rows(run)):
            opened.parts.append(_submit(run, plan, opened, piece))
    except KitestringError:
        _wait_for(opened.parts)
        raise
    return opened


def _piece_rows(run: Run) -> int:
    """Half of what a rank may hold: the other half is the part before, on its way to the store."""
    unsaved = run.job.compute.unsaved_rows
    return run.ranks.pace.piece_rows if unsaved == "auto" else unsaved // 2


def _submit(run: Run, plan: Plan, opened: _Open, rows: PieceRows) -> Future[Part]:
    shard = opened.shard
    path = run.scratch / f"{shard.id}-{rows.first}.arrow"
    rows.write(path)
    run.ranks.pace.given(rows.stop - rows.first)
    key = plan.checkpoint.layout.part(shard.id, opened.attempt, rows.first, rows.stop)
    part = run.ranks.submit(Piece(shard=shard.id, name=shard.name, first=rows.first, stop=rows.stop, rows=str(path), key=key))
    part.add_done_callback(lambda _: path.unlink(missing_ok=True))
    return part


def _seal(run: Run, plan: Plan, opened: _Open) -> None:
    """Commit a shard, after checking it against the law "Accounted rows".

    Raises:
        Permanent: the accounts do not add up, or a piece failed for good.
    """
    _wait_for(opened.parts)
    made = [part.result() for part in opened.parts]
    parts = sorted([*opened.adopted, *made], key=lambda part: part.first)
    quarantined = [*opened.tally.quarantined, *(row for part in parts for row in part.quarantined)]
    seal = Seal(
        shard=opened.shard.id,
        name=opened.shard.name,
        group=opened.shard.group,
        run=run.id,
        attempt=opened.attempt,
        dim=plan.record.facts.dim,
        source_rows=opened.tally.seen,
        embedded=sum(part.rows for part in parts),
        duplicates=opened.tally.duplicates,
        quarantined=tuple(sorted(quarantined, key=lambda row: row.row)),
        parts=tuple(parts),
        seconds=round(time.monotonic() - opened.begun, 3),
        sealed_at=utc_now(),
    )
    check_accounts(seal)
    plan.settle_encoder()
    winner = plan.checkpoint.seal(seal)
    run.journal.note_seal(winner, by_this_run=sum(part.rows for part in made) if winner == seal else 0, adopted=len(opened.adopted))


def _wait_for(parts: list[Future[Part]]) -> None:
    for part in parts:
        part.exception()


def _failed(run: Run, plan: Plan, shard: Shard, error: Permanent) -> list[tuple[Shard, Permanent]]:
    """A shard that is refused for what is in it leaves no parts behind: every run would refuse it.

    After any other failure they stay: a run beside this one may have adopted them already, and `gc` sweeps.
    """
    if isinstance(error, BadInput):
        for stored in plan.checkpoint.parts_of(shard.id):
            if f"/{run.id}" in stored.key:
                plan.checkpoint.store.delete(stored.key)
    return [(shard, error)]
