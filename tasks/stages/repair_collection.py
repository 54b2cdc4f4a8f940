"""Repair: correct the differences of a collection from its seals, and verify every row again."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.errors import BadInput
from tasks.domain.ports import Collection
from tasks.domain.target.proof import Proof
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.stages.mend_shards import enter_sealed, format_mending, mend_shards, remove_strangers
from tasks.stages.verify import sealed_rows, verify_plan


@task(name="repair", cache_policy=NO_CACHE)
def repair_collection(run: Run, plan: Plan, collection: Collection) -> Proof:
    """Compare every row; remove rows that no seal accounts for, load differing shards again, and compare every row again.

    Raises:
        BadInput: there is no collection to repair.
        Damaged: a part does not match its seal.
    """
    if collection.describe() is None:
        raise BadInput(f"collection '{plan.spec.name}' is not at {plan.job.target.address}: `kitestring run` or `replay` loads it")
    with run.journal.during("verify"):
        collection.flush_and_index()
        proof = _every_row(run, plan, collection, looking=True)
        return proof if proof.proved else _repaired(run, plan, collection, proof)


def _repaired(run: Run, plan: Plan, collection: Collection, proof: Proof) -> Proof:
    names = {count.shard: count.name for count in proof.counts}
    if entered := enter_sealed(plan, collection):
        run.journal.note(f"the ledger had lost {entered:,} of the sealed shards in the collection: entered again, their rows stay")
    unaccounted = remove_strangers(plan, collection)
    if unaccounted:
        run.journal.note_removal(f"{unaccounted:,} rows that no seal accounts for", unaccounted)
    removed = mend_shards(run, plan, collection, proof.wrong_shards, torn=unaccounted > 0)
    if proof.wrong_shards:
        run.journal.note(format_mending(proof, [names[shard] for shard in proof.wrong_shards], removed))
    return _every_row(run, plan, collection)


def _every_row(run: Run, plan: Plan, collection: Collection, *, looking: bool = False) -> Proof:
    with run.journal.counting("rows compared", sealed_rows(plan)) as watch:
        return verify_plan(plan, collection, full=True, looking=looking, watch=watch)
