"""Promote: point the alias at the collection once it is verified and passes the gate; drop outdated collections."""

from __future__ import annotations

import datetime as dt

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.domain.ports import Collection
from tasks.domain.report.run_report import rows_wrong
from tasks.domain.target.promotion import Promotion, is_rejected, outdated, unfinished
from tasks.domain.target.proof import Proof
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.promotion.alias_moves import MoveOutcome, new_move, pass_gate, standing_identities
from tasks.run.promotion.promotion_gate import GateQuery
from tasks.run.seals.seal_totals import count_seals


@task(name="promote", cache_policy=NO_CACHE)
def promote_proved(run: Run, plan: Plan, collection: Collection, proof: Proof) -> tuple[GateQuery, ...]:
    """Point the alias at the collection if it is verified and no rule forbids it; then drop outdated collections.

    Returns some of the gate's questions, if the gate was evaluated.
    """
    if _fails(run, plan, proof):
        return ()
    with run.journal.during("promote"):
        moves = Promotions(plan.inspected.store, plan.job, plan.inspected.damages)
        outcome = _move_alias(plan, collection, moves)
        run.journal.gate = outcome.evaluation
        for line in outcome.notes:
            run.journal.note(line)
        if outcome.live != outcome.before:
            run.journal.note(f"alias '{plan.spec.alias}' points to '{outcome.live}'")
            run.journal.emit("collection.promoted", {"collection": outcome.live, "before": outcome.before})
        if outcome.refused:
            run.journal.note_refusal(f"the alias was not moved to '{plan.spec.name}': {outcome.refused}")
        for name in _drop_outdated(plan, collection, moves, live=outcome.live):
            run.journal.note(f"'{name}' was dropped: unused for longer than target.grace, and beyond target.keep_previous")
        return outcome.queries


def _fails(run: Run, plan: Plan, proof: Proof) -> bool:
    """Whether the run will fail for other reasons, so that the alias must not move."""
    if not proof.proved or run.journal.failed or run.journal.refusals:
        return True
    totals = count_seals(plan, encoded_now={})
    most = run.job.failures.max_quarantined
    return totals.loaded < plan.spool.shards or rows_wrong(totals.rows, totals.quarantine, most) is not None


def _move_alias(plan: Plan, collection: Collection, moves: Promotions) -> MoveOutcome:
    before, name = collection.target.resolve(plan.spec.alias), plan.spec.name
    history = moves.read(standing=standing_identities(plan, before))
    live = before
    if rollback := unfinished(history, live):  # a kill interrupted it
        collection.target.point(plan.spec.alias, rollback)
        live = rollback
    if live == name:
        return MoveOutcome(before=before, live=live, notes=[])
    by_hand = f"`kitestring promote` moves the alias from '{live}' to it" if live else "`kitestring promote` points the alias at it"
    if live and moves.damaged and not is_rejected(history, name):
        moves.note(_move_back(plan, live))
        note = f"'{name}' is verified, and the alias stays at '{live}': an unreadable record of an alias move may have been a rollback"
        return MoveOutcome(before=before, live=live, notes=[f"{note}: {by_hand}"])
    if is_rejected(history, name):
        return MoveOutcome(before=before, live=live, notes=[f"'{name}' was rolled back, so the alias does not move to it: {by_hand}"])
    if plan.job.target.promote == "manual":
        return MoveOutcome(before=before, live=live, notes=[f"'{name}' is verified, and target.promote is manual: {by_hand}"])
    return pass_gate(plan, collection, moves, by="run")


def _move_back(plan: Plan, live: str) -> Promotion:
    """Return a rollback to record in place of an unreadable move, which may have been one: no run may undo it, only `promote`."""
    return new_move(plan, plan.spec.name, "rollback").model_copy(update={"collection": live, "fingerprint": "", "model": ""})


def _drop_outdated(plan: Plan, collection: Collection, moves: Promotions, *, live: str | None) -> list[str]:
    target, now = plan.job.target, dt.datetime.now(dt.UTC)
    history = moves.read(standing=standing_identities(plan, live))
    names = outdated(history, kept={live, plan.spec.name}, keep_previous=target.keep_previous, grace=target.grace, now=now)
    return [name for name in names if collection.target.drop(name)]
