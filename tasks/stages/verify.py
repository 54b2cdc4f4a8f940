"""Verify: compare the collection with the seals, and store the proof beside the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.targets.every_row import Watch
from tasks.adapters.targets.verification import prove
from tasks.domain.errors import BadInput, Damaged
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import SealSetDigest
from tasks.domain.target.proof import Proof, unproved
from tasks.run.context import Run
from tasks.run.plan import Plan, index_notes, opened, other_words, planned_before
from tasks.run.seals.damage import damaged_documents
from tasks.run.seals.effective_seals import owned_parts, owned_seals, retained_parts, retained_seals, seals_of
from tasks.run.seals.unaccounted_rows import clock_of
from tasks.stages.mend_shards import format_mending, mend_shards

Watched = Callable[[int], AbstractContextManager[Watch]]


@task(name="verify", cache_policy=NO_CACHE)
def verify_collection(run: Run, plan: Plan, collection: Collection) -> Proof:
    """Prove the collection against the seals of the plan.

    Raises:
        BadInput: every shard was refused for its content, and nothing is sealed; no collection is created.
        Damaged: a part that the proof read does not match its seal.
    """
    _refuse_bad_input(run, plan)
    with run.journal.during("verify"):
        plan.bind(collection.ensure(plan.spec))  # it does not exist yet if no shard could be sealed
        _reindex(run, plan, collection)
        collection.flush_and_index()
        return _mended(run, plan, collection, verify_plan(plan, collection))


def _reindex(run: Run, plan: Plan, collection: Collection) -> None:
    """Rebuild the index if the job's differs; after rows were loaded, so that they are indexed only once."""
    begun = time.monotonic()
    differed = collection.reindex(plan.spec)
    if differed:
        took = time.monotonic() - begun
        run.journal.note(f"index rebuilt: '{plan.spec.name}' had {differed}; searches waited for up to {took:.0f} s")


def _mended(run: Run, plan: Plan, collection: Collection, proof: Proof) -> Proof:
    """Load shards with differences again, once, and repeat the verification."""
    wrong = [shard for shard in proof.wrong_shards if shard not in run.journal.failed]
    if not wrong:
        return proof
    names = {count.shard: count.name for count in proof.counts}
    removed = mend_shards(run, plan, collection, wrong)
    run.journal.note(format_mending(proof, [names[shard] for shard in wrong], removed))
    return verify_plan(plan, collection)


def _refuse_bad_input(run: Run, plan: Plan) -> None:
    failed = run.journal.failed
    if not failed or failed.keys() - run.journal.bad_input or next(seals_of(plan), None):
        return
    _, error = next(iter(failed.values()))
    raise BadInput(error)


def verify_plan(
    plan: Plan,
    collection: Collection,
    *,
    full: bool = False,
    seed: int | None = None,
    looking: bool = False,
    watch: Watch = lambda _rows: None,
) -> Proof:
    """Verify the collection, and store the proof beside the ledger.

    Args:
        plan: has the seals, including retained ones.
        collection: the collection loaded from them.
        full: compare every row, which reads every part.
        seed: seed of the sample; None: random.
        looking: only verify: nothing was loaded before.
        watch: receives the number of compared rows, with `full`.
    """
    cover, checkpoint, target = SealSetDigest(), plan.checkpoint, plan.target
    trusted, last = (checkpoint.loaded_ids(target), checkpoint.read_proof(target)) if looking else (None, None)
    with owned_parts(plan) as seals:
        proof = prove(
            collection,
            ((cover.add(seal), read) for seal, read in seals),
            ((cover.add(seal), read) for seal, read in retained_parts(plan)),
            full=full,
            seed=seed,
            search=plan.job.target.search,
            shared=plan.job.target.shared,
            elsewhere=lambda: plan.checkpoint.loads_of_others(plan.target),
            clock=clock_of(collection, looking=looking),
            watch=watch,
        )
    proof = proof.model_copy(update={"covers": cover.digest, "collection": target})
    if proof.proved or not looking or checkpoint.read_proof(target) == last:  # otherwise the proof of a concurrent run is newer
        checkpoint.record_proof(target, proof)
    # The ledger is wrong about these shards: the next run loads them again; their entries stay. If only verifying, leave out
    # shards that were doubted at the start, because a run may have loaded them meanwhile.
    wrong = (shard for shard in proof.wrong_shards if trusted is None or shard in trusted)
    checkpoint.distrust_loads(target, wrong, "doubted")
    return proof


def sealed_rows(plan: Plan) -> int:
    """Return the number of rows that a full proof compares."""
    return sum(seal.rows for seal in chain(owned_seals(plan), retained_seals(plan)))


@contextmanager
def unwatched(_rows: int) -> Iterator[Watch]:
    """Show no progress."""
    yield lambda _rows: None


def look_at_proof(job: Job, *, full: bool = False, seed: int | None = None, watched: Watched = unwatched) -> Proof:
    """Compare the collection with the seals now. A collection that the alias does not point to is not proved either.

    Args:
        job: the job of the collection.
        full: compare every row.
        seed: seed of the sample; None: random.
        watched: makes the callback for the number of compared rows, given their total.
    """
    with planned_before(job) as plan, opened(plan) as collection:
        existing = collection.describe()
        if existing is None:
            if otherwise := other_words(plan, collection.target):
                return unproved(otherwise)
            raise BadInput(f"collection '{plan.spec.name}' is not at {job.target.address}: `kitestring run` or `replay` loads it")
        if damaged := damaged_documents(plan):
            return unproved(*damaged)
        rows = sealed_rows(plan) if full else 0
        try:
            with watched(rows) as watch:
                proof = verify_plan(plan, collection, full=full, seed=seed, looking=True, watch=watch)
        except Damaged as damage:
            return unproved(f"{damage}: `kitestring run` encodes its shard again")
        proof = proof.model_copy(update={"notes": (*index_notes(plan, existing), *_unsealed_notes(plan))})
        return _check_alias(plan, collection.target.resolve(plan.spec.alias), proof)


def _unsealed_notes(plan: Plan) -> list[str]:
    """Return a note on unsealed shards: a proof covers only sealed shards, not files that were added or changed since."""
    sealed = plan.checkpoint.sealed_ids()
    unsealed = sum(shard.id not in sealed for shard in plan)
    if not unsealed:
        return []
    return [
        f"{unsealed:,} of the source's {plan.spool.shards:,} shards are not sealed and were not compared: `kitestring run` encodes them"
    ]


def _check_alias(plan: Plan, live: str | None, proof: Proof) -> Proof:
    if live == plan.spec.name:
        return proof
    now = f"alias '{plan.spec.alias}' points to '{live}'" if live else f"alias '{plan.spec.alias}' does not exist"
    reason = f"{now}, not to '{plan.spec.name}', which was verified: `kitestring promote` moves it"
    return proof.model_copy(update={"proved": False, "reasons": (*proof.reasons, reason)})
