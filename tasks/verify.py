"""Verify: the collection is held against the seals, and what was found is kept beside the ledger."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.proof import prove
from tasks.domain.errors import BadInput
from tasks.domain.ports import Collection
from tasks.domain.proof import Proof
from tasks.domain.seal import Cover
from tasks.plan import Plan
from tasks.run import Run
from tasks.seals import owned_parts, seals_of


@task(name="verify", cache_policy=NO_CACHE)
def verify_collection(run: Run, plan: Plan, collection: Collection) -> Proof:
    """Prove the collection against the seals of the plan.

    Raises:
        BadInput: every shard was refused for what is in it, and nothing is sealed: nothing is left behind.
        Damaged: a part that the proof read is not what was sealed.
    """
    _refuse_bad_input(run, plan)
    with run.journal.during("verify"):
        plan.bind(collection.ensure(plan.spec))  # where no shard could be sealed, nobody has made it yet
        collection.settle()
        return verify_plan(plan, collection)


def _refuse_bad_input(run: Run, plan: Plan) -> None:
    failed = run.journal.failed
    if not failed or run.journal.bad_input < len(failed) or next(seals_of(plan), None):
        return
    _, error = next(iter(failed.values()))
    raise BadInput(error)


def verify_plan(plan: Plan, collection: Collection, *, full: bool = False) -> Proof:
    """Prove, and keep the result beside the ledger. `full`: with every key, which reads every part."""
    cover = Cover()
    with owned_parts(plan) as seals:
        proof = prove(collection, ((cover.add(seal), read) for seal, read in seals), full=full, search=plan.job.target.search)
    proof = proof.model_copy(update={"covers": cover.digest})
    plan.checkpoint.record_proof(plan.target, proof)
    # The ledger is wrong about these: the next run loads them again.
    wrong = (count.shard for count in proof.counts if count.sealed != count.found or count.same_keys is False)
    plan.checkpoint.distrust_loads(plan.target, wrong, "doubted")
    return proof
