"""`kitestring promote` and `rollback`: move the alias on request."""

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
        anyway: move the alias even if the collection holds fewer rows than the current one, or more are quarantined.

    Raises:
        BadInput: the collection does not exist, is not verified in its current state, or the gate refuses it.
    """
    with scratch_folder() as scratch:
        plan = plan_again(inspect_job(job), scratch)
        if plan is None:
            raise BadInput(f"corpus '{job.corpus}' has no vectors of this encoder: run the job first")
        with opened(plan) as collection:
            existing = collection.describe()
            if existing is None:
                raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.address}: `kitestring run` creates it")
            _refuse_unproved(plan)
            before, notes = collection.target.resolve(plan.spec.alias), index_notes(plan, existing)
            if before == plan.spec.name:
                return _result(job, before, before, notes)
            moves = Promotions(plan.inspected.store, job, plan.inspected.damages)
            outcome = pass_gate(plan, collection, moves, by="promote", anyway=anyway)
    if outcome.refused:
        raise BadInput("; ".join([f"the alias was not moved to '{plan.spec.name}': {outcome.refused}", *outcome.notes]))
    gate = outcome.evaluation.model_dump(mode="json") if outcome.evaluation else None
    return {**_result(job, outcome.live, before, [*outcome.notes, *notes]), "gate": gate}


def roll_back(job: Job) -> dict[str, Any]:
    """Point the alias at the previous collection. Runs leave it there; only `promote` moves it back.

    Raises:
        BadInput: no earlier collection exists.
    """
    moves = Promotions(open_store(job.checkpoint), job)
    live = live_collection(job)
    with closing(open_target(job)) as target:
        for name in previous(moves.read(standing=[identity_of(job, live)] if live else ()), live):
            collection = target.collection(name)
            spec = collection.describe()
            if spec is not None:
                by: Trigger = "rollback"
                record = {"ledger": collection.identity() or "", "fingerprint": spec.fingerprint, "model": spec.model, "at": utc_now()}
                moves.note(Promotion.model_validate({"collection": name, "instead_of": live, "by": by, **record}))
                target.point(job.target.collection, name)
                return _result(job, name, live, [])
    raise BadInput(f"'{job.target.collection}' points to '{live}', and corpus '{job.corpus}' has no earlier collection to roll back to")


def _refuse_unproved(plan: Plan) -> None:
    """Check that the collection has a proof for its current seals.

    Raises:
        BadInput: there is no proof, it found faults, or it is for other seals.
    """
    proof = plan.checkpoint.read_proof(plan.target)
    cure = "`kitestring run` or `kitestring verify` does that"
    if proof is None or not proof.proved:
        raise BadInput(f"collection '{plan.spec.name}' is not verified: {cure}")
    totals = count_seals(plan, encoded_now={})
    if not proof.holds_for(totals.cover.digest, plan.target) or totals.loaded < totals.sealed:
        raise BadInput(
            f"collection '{plan.spec.name}' is not verified in its current state: "
            f"shards were sealed or changed since its last verification: {cure}"
        )


def _result(job: Job, live: str | None, before: str | None, notes: list[str]) -> dict[str, Any]:
    return {"alias": job.target.collection, "collection": live, "before": before, "told": notes}
