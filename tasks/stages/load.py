"""Load: what is sealed goes into the collection, and the ledger says so once the server has."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.json_documents import utc_now
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.targets.part_loading import load_part
from tasks.domain.errors import Damaged, Permanent
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Loaded, Part, Seal, intent_of
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import sealed_keys
from tasks.stages.deduplicate import unsettle
from tasks.stages.encode import seal_again, worth_another_try
from tasks.stages.retry_quarantined import recover

log = logging.getLogger("kitestring.load")


@contextmanager
def opened(plan: Plan) -> Iterator[Collection]:
    """The plan's collection, let go of in the end."""
    collection = plan.inspected.open_target(plan.spec.name)
    try:
        yield collection
    finally:
        collection.close()


def up_to_date(plan: Plan) -> Container[str]:
    """Shards whose newest seal is in the collection, by its ledger; a collection that is not there has none."""
    return plan.checkpoint.up_to_date(plan.target)


def begin_loading(plan: Plan, collection: Collection) -> None:
    """Make the collection where there is none, and note what follows from loading into it; the first load of a run does.

    Shards that are no longer planned may lose keys to those that are: from here on nobody relies on them, until they are
    planned and loaded again.
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


@task(name="load", task_run_name=name_runs("load"), cache_policy=NO_CACHE, retry_delay_seconds=5, retry_condition_fn=worth_another_try)
def load_shards(run: Run, plan: Plan, collection: Collection, group: list[Shard], *, mend: bool = True) -> None:
    """Load every sealed shard of a group.

    A part that is not what was sealed is found by its checksum before anything of it is loaded: the shard's seal is
    withdrawn, and with `mend` the shard is encoded again here and now, otherwise by the next run.

    Raises:
        Permanent: a shard cannot be loaded; the first of them, after all others are.
        Transient: the server did not take it in time; upserting again changes nothing that is there.
    """
    first: Permanent | None = None
    with run.journal.during("load"), run.journal.telling(group):
        if any(plan.checkpoint.read_seal(shard.id) for shard in group):  # a corpus that is refused makes no collection
            begin_loading(plan, collection)
        for shard in group:
            try:
                _load_shard(run, plan, collection, shard, mend=mend)
            except Permanent as error:
                run.journal.note_failure(shard, error)
                first = first or error
    if first:
        raise first


def _load_shard(run: Run, plan: Plan, collection: Collection, shard: Shard, *, mend: bool) -> None:
    seal = None if run.journal.has_loaded(shard) else plan.checkpoint.effective_seal(shard.id)
    if seal is None:
        return
    before = plan.checkpoint.read_load(plan.target, shard.id)
    try:
        entry = load_seal(plan, collection, shard, seal, run=run.id)
    except Damaged as damage:
        withdraw(run, plan, seal, damage)
        if not mend:
            raise
        seal = _seal_again(run, plan, shard, seal)
        entry = load_seal(plan, collection, shard, seal, run=run.id)
    if shard.id in run.journal.damaged or (before and before.seal != seal.digest):
        remove_strays(run, plan, collection, seal)
    run.journal.note_load(entry)


def _seal_again(run: Run, plan: Plan, shard: Shard, before: Seal) -> Seal:
    """The seal in place of one that was withdrawn. Rows that retries had recovered are tried again."""
    seal_again(run, plan, shard)
    if any(part.amendment for part in before.parts):
        recover(run, plan, shard)
    return plan.checkpoint.effective_seal(shard.id) or before


def remove_strays(run: Run, plan: Plan, collection: Collection, seal: Seal) -> None:
    """Rows that an earlier seal of the shard had and this one has not leave the collection; after this one is loaded."""
    if collection.count(seal.shard) == seal.embedded:
        return
    sealed = sealed_keys(plan, seal)
    strays = [key for key in collection.keys(seal.shard) if key not in sealed]
    collection.delete_keys(strays)
    if strays:
        run.journal.note_removal(f"{len(strays):,} rows that an earlier seal of {seal.name} had", len(strays))


def withdraw(run: Run, plan: Plan, seal: Seal, damage: Damaged) -> bool:
    """Take back what names a damaged part of a shard, and say so. False: its parts are whole."""
    withdrawn = plan.checkpoint.withdraw(seal, plan.target)
    if withdrawn:
        run.journal.note_damage(seal, damage)
        log.warning("shard %s: %s; its seal is withdrawn, and it is encoded again", seal.name, damage)
    return withdrawn


def load_seal(plan: Plan, collection: Collection, shard: Shard, seal: Seal, *, run: str) -> Loaded:
    """An intent, every part into the collection, then the ledger.

    Raises:
        Damaged: a part is not what was sealed, or `gc` is removing it.
    """
    begun = time.monotonic()
    intent = intent_of(shard, seal, run=run, at=utc_now())
    plan.checkpoint.intend_load(plan.target, intent)
    cut = 0
    plan.checkpoint.refuse_condemned(seal)

    def load(part: Part) -> pa.Table:
        nonlocal cut
        rows = plan.checkpoint.sealed_part(part)
        cut += load_part(collection, rows, seal.shard).cut
        return rows

    ShardKeys(plan.checkpoint, plan.scratch).keep(seal, load)
    took = round(time.monotonic() - begun, 3)
    entry = intent.model_copy(update={"state": "loaded", "cut": cut, "seconds": took, "loaded_at": utc_now()})
    plan.checkpoint.record_load(plan.target, entry)
    return entry
