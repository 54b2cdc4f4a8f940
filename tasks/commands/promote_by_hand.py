"""`kitestring promote` and `rollback`: moving the alias on request."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.target.promotion import Promotion, previous
from tasks.run.plan import Plan, index_notes, opened, plan_again
from tasks.run.preflight import inspect_job, live_collection, open_target
from tasks.run.promotion.alias_moves import Trigger, identity_of, pass_gate
from tasks.run.seals.seal_totals import count_seals


def promote_by_hand(job: Job, *, anyway: bool = False) -> dict[str, Any]:
    """Point the alias at the collection of the job's encoder, if the gate lets it pass.

    Args:
        job: names the alias and the encoder.
        anyway: even if the collection holds fewer rows than the current one, or more are quarantined.

    Raises:
        BadInput: there is no such collection, it is not verified in its current state, or the gate refuses it.
    """
    with scratch_folder() as scratch:
        plan = plan_again(inspect_job(job), scratch)
        if plan is None:
            raise BadInput(f"corpus '{job.corpus}' holds nothing made with this encoder: run the job first")
        with opened(plan) as collection:
            there = collection.describe()
            if there is None:
                raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.address}: `kitestring run` makes it")
            _refuse_unproved(plan)
            before, notes = collection.target.resolve(plan.spec.alias), index_notes(plan, there)
            if before == plan.spec.name:
                return _said(job, before, before, notes)
            moves = Promotions(plan.inspected.store, job, plan.inspected.damages)
            outcome = pass_gate(plan, collection, moves, by="promote", anyway=anyway)
    if outcome.refused:
        raise BadInput("; ".join([f"the alias was not moved to '{plan.spec.name}': {outcome.refused}", *outcome.told]))
    measured = outcome.measured.model_dump(mode="json") if outcome.measured else None
    return {**_said(job, outcome.live, before, [*outcome.told, *notes]), "gate": measured}


def roll_back(job: Job) -> dict[str, Any]:
    """Point the alias at the previous collection. No run moves it back: only `promote` does.

    Raises:
        BadInput: no earlier collection is there.
    """
    moves = Promotions(open_store(job.checkpoint), job)
    live = live_collection(job)
    with closing(open_target(job)) as target:
        for name in previous(moves.read(standing=[identity_of(job, live)] if live else ()), live):
            collection = target.collection(name)
            made = collection.describe()
            if made is not None:
                by: Trigger = "rollback"
                told = {"ledger": collection.identity() or "", "fingerprint": made.fingerprint, "model": made.model, "at": utc_now()}
                moves.note(Promotion.model_validate({"collection": name, "instead_of": live, "by": by, **told}))
                target.point(job.target.collection, name)
                return _said(job, name, live, [])
    raise BadInput(f"'{job.target.collection}' points to '{live}', and corpus '{job.corpus}' has no earlier collection to roll back to")


def _refuse_unproved(plan: Plan) -> None:
    """A proof counts for the seals and the collection that it names, and for no others.

    Raises:
        BadInput: there is none, it found faults, or it is of other seals.
    """
    proof = plan.checkpoint.read_proof(plan.target)
    cure = "`kitestring run` or `kitestring verify` does that"
    if proof is None or not proof.proved:
        raise BadInput(f"collection '{plan.spec.name}' is not verified: {cure}")
    totals = count_seals(plan, encoded_now={})
    if not proof.holds_for(totals.cover.digest, plan.target) or totals.loaded < totals.sealed:
        raise BadInput(
            f"collection '{plan.spec.name}' is not verified in its current state: shards were sealed or changed since its last verification: {cure}"
        )


def _said(job: Job, live: str | None, before: str | None, told: list[str]) -> dict[str, Any]:
    return {"alias": job.target.collection, "collection": live, "before": before, "told": told}
