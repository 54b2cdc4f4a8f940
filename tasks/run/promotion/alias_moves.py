"""Move the alias that searches use: after the gate, and recorded before it is done."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.domain.target.promotion import Promotion
from tasks.domain.target.retrieval_quality import Evaluation
from tasks.run.plan import Plan
from tasks.run.preflight import open_target
from tasks.run.promotion.fewer_rows import why_smaller
from tasks.run.promotion.promotion_gate import GateQuery, evaluate_gate

Trigger = Literal["run", "promote", "rollback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """The target of the alias before and after an attempted promotion, notes, and the reason if it was refused."""

    before: str | None
    live: str | None
    notes: list[str]
    refused: str | None = None
    queries: tuple[GateQuery, ...] = ()
    evaluation: Evaluation | None = None


def pass_gate(plan: Plan, collection: Collection, moves: Promotions, *, by: Trigger, anyway: bool = False) -> MoveOutcome:
    """Evaluate the gate, and move the alias if it passes. `anyway`: even if the new collection is smaller than the current one."""
    live, name = collection.target.resolve(plan.spec.alias), plan.spec.name
    result = evaluate_gate(plan, collection, live)
    outcome = MoveOutcome(before=live, live=live, notes=result.notes, queries=result.queries, evaluation=result.evaluation)
    refused = result.refused or (why_smaller(plan, collection, live) if live and not anyway else None)
    now = collection.target.resolve(plan.spec.alias)
    if not refused and now not in (live, name):  # such as by a rollback while the gate was evaluated
        refused = f"it was moved from '{live}' to '{now}' meanwhile"
    if refused:
        return replace(outcome, live=now, refused=refused)
    moves.note(new_move(plan, live, by))
    collection.target.point(plan.spec.alias, name)
    return replace(outcome, live=name)


def standing_identities(plan: Plan, live: str | None) -> set[str]:
    """The identities of the plan's collection and of the live one."""
    return {plan.target, *([identity_of(plan.job, live)] if live else [])}


def identity_of(job: Job, name: str) -> str:
    """The identity of a collection at a job's target; "" if it has none."""
    with closing(open_target(job)) as target:
        return target.collection(name).identity() or ""


def new_move(plan: Plan, live: str | None, by: Trigger) -> Promotion:
    """The record of a move of the alias from `live` to the plan's collection."""
    spec = plan.spec
    return Promotion(
        collection=spec.name, ledger=plan.target, instead_of=live, by=by, fingerprint=spec.fingerprint, model=spec.model, at=utc_now()
    )
