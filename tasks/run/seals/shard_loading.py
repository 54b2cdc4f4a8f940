"""Load a sealed shard into the collection and record it in the ledger; withdraw the seal of a damaged one."""

from __future__ import annotations

import logging
from collections.abc import Container

import pyarrow as pa

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.targets.part_loading import PartLoaded, load_beside_vectors, load_part
from tasks.adapters.targets.shard_loader import load_sealed_shard
from tasks.domain.errors import Damaged
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Loaded, Seal
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import sealed_keys
from tasks.run.seals.held_vectors import HeldVectors

log = logging.getLogger("kitestring.load")


def up_to_date(plan: Plan) -> Container[str]:
    """Shards whose newest seal is in the collection, by its ledger; none if the collection does not exist."""
    return plan.checkpoint.up_to_date(plan.target)


def begin_loading(plan: Plan, collection: Collection) -> None:
    """Create the collection if it does not exist, and update its ledger for loading. Only the first load of a run does this.

    Shards that are no longer planned may lose keys to planned ones: their entries are marked outdated, and not relied on until
    they are planned and loaded again.
    """
    with plan.lock:
        if plan.loading:
            return
        plan.bind(collection.ensure(plan.spec))
        unsettle(plan)
        planned = DigestSet(shard.id for shard in plan)
        trusted = plan.checkpoint.loaded_ids(plan.target)
        plan.checkpoint.distrust_loads(plan.target, (shard for shard in trusted if shard not in planned), "outdated")
        plan.checkpoint.record_root(plan.target, plan.roots.now)
        plan.loading = True


def unsettle(plan: Plan) -> None:
    """Mark the owners of duplicate keys as unsettled: the following writes may change which shard holds a key."""
    owners = plan.checkpoint.read_owners(plan.target)
    if owners and owners.settled:
        plan.checkpoint.record_owners(plan.target, owners.model_copy(update={"settled": False}))


def load_seal(plan: Plan, collection: Collection, shard: Shard, seal: Seal, *, run: str, whole: bool = True) -> Loaded:
    """Record the intent, load every part, then record the load in the ledger.

    Args:
        plan: of the run.
        collection: to load into.
        shard: to load.
        seal: of the shard.
        run: id of the run.
        whole: False: vectors that the collection already holds are not sent.

    Raises:
        Damaged: a part is damaged, or `gc` is removing it.
    """
    held = None if whole else _held_vectors(plan, collection, seal)

    def send(rows: pa.Table) -> PartLoaded:
        return load_beside_vectors(collection, rows, seal.shard, held.of(rows)) if held else load_part(collection, rows, seal.shard)

    return load_sealed_shard(plan.checkpoint, collection, shard, seal, ledger=plan.target, run=run, scratch=plan.scratch, send=send)


def _held_vectors(plan: Plan, collection: Collection, seal: Seal) -> HeldVectors | None:
    """The vectors of earlier shards in the collection; None if all vectors of the seal are new."""
    if not any(part.reused for part in seal.parts):
        return None
    with plan.lock:
        if plan.held_vectors is None:
            planned = DigestSet(shard.id for shard in plan)
            keys = ShardKeys(plan.checkpoint, plan.scratch)
            plan.held_vectors = HeldVectors(plan.checkpoint, plan.target, planned, collection, keys)
        return plan.held_vectors


def send_vectors_again(run: Run, plan: Plan, collection: Collection) -> None:
    """Load shards whose rows were sent without vectors again, whole, if another run has written to the collection meanwhile."""
    shards, held = run.journal.without_vectors, plan.held_vectors
    if not shards or held is None or held.undisturbed():
        return
    for shard in plan:
        seal = plan.checkpoint.effective_seal(shard.id) if shard.id in shards else None
        if seal is not None:
            load_seal(plan, collection, shard, seal, run=run.id)
    run.journal.note("another run was writing to the collection: rows that were sent without their vectors were sent again, whole")
    shards.clear()


def remove_strays(run: Run, plan: Plan, collection: Collection, seal: Seal) -> None:
    """Remove rows of an earlier seal of the shard that this seal does not have; called after this seal is loaded."""
    if collection.count(seal.shard) == seal.rows:
        return
    sealed = sealed_keys(plan, seal)
    strays = [key for key in collection.keys(seal.shard) if key not in sealed]
    collection.delete_keys(strays)
    if strays:
        run.journal.note_removal(f"{len(strays):,} rows that an earlier seal of {seal.name} had", len(strays))


def withdraw(run: Run, plan: Plan, seal: Seal, damage: Damaged) -> bool:
    """Withdraw the seal of a shard with a damaged part, and record it. Returns False if all parts are intact."""
    withdrawn = plan.checkpoint.withdraw(seal, plan.target)
    if withdrawn:
        run.journal.note_damage(seal, damage)
        log.warning("shard %s: %s; its seal is withdrawn and the shard is encoded again", seal.name, damage)
    return withdrawn
