"""Load: what is sealed goes into the collection, and the ledger says so once the server has."""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.digest_set import DigestSet
from tasks.adapters.loading import load_part
from tasks.adapters.shard_keys import ShardKeys, keys_in
from tasks.domain.errors import Damaged, Permanent
from tasks.domain.ports import Collection
from tasks.domain.resume import superseded
from tasks.domain.seal import Loaded, Part, Seal
from tasks.domain.shard import Shard
from tasks.domain.shrink import why_not_to_shrink
from tasks.encode import seal_again, worth_another_try
from tasks.owners import unsettle
from tasks.plan import Plan
from tasks.quarantine import recover
from tasks.run import Run, utc_now
from tasks.window import name_runs

log = logging.getLogger("kitestring.load")


@contextmanager
def opened(plan: Plan) -> Iterator[Collection]:
    """The plan's collection, let go of in the end."""
    collection = plan.inspected.open_target(plan.spec.name)
    try:
        yield collection
    finally:
        collection.close()


def up_to_date(plan: Plan, collection: Collection) -> Container[str]:
    """Shards whose newest seal is in the collection, by the ledger.

    A collection that is gone (somebody removed the Lite file, or dropped it) takes its ledger with it. An entry of a
    run beside this one is not among those: it comes after that run has made the collection. Clocks are not asked.
    """
    if collection.describe() is None:
        entries = plan.checkpoint.loaded_ids(plan.target)
        if collection.describe() is None:
            plan.checkpoint.forget_loads(plan.target, entries)
    return plan.checkpoint.up_to_date(plan.target)


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
            unsettle(plan)
            collection.ensure(plan.spec)
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
        entry = load_seal(plan, collection, seal, run=run.id)
    except Damaged as damage:
        withdraw(run, plan, seal, damage)
        if not mend:
            raise
        seal = _seal_again(run, plan, shard, seal)
        entry = load_seal(plan, collection, seal, run=run.id)
    if shard.id in run.journal.damaged or (before and before.seal != seal.digest):
        remove_strays(plan, collection, seal)
    run.journal.note_load(entry)


def _seal_again(run: Run, plan: Plan, shard: Shard, before: Seal) -> Seal:
    """The seal in place of one that was withdrawn. Rows that retries had recovered are tried again."""
    seal_again(run, plan, shard)
    if any(part.amendment for part in before.parts):
        recover(run, plan, shard)
    return plan.checkpoint.effective_seal(shard.id) or before


def remove_strays(plan: Plan, collection: Collection, seal: Seal) -> None:
    """Rows that an earlier seal of the shard had and this one has not leave the collection; after this one is loaded."""
    if collection.count(seal.shard) == seal.embedded:
        return
    sealed = set(keys_in(ShardKeys(plan.checkpoint).read(seal)))
    strays = [key for key in collection.keys(seal.shard) if key not in sealed]
    collection.delete_rows(seal.shard, strays)
    log.warning("shard %s: %d rows of an earlier seal are removed", seal.name, len(strays))


def withdraw(run: Run, plan: Plan, seal: Seal, damage: Damaged) -> bool:
    """Take back what names a damaged part of a shard, and say so. False: its parts are whole."""
    withdrawn = plan.checkpoint.withdraw(seal, plan.target)
    if withdrawn:
        run.journal.note_damage(seal, damage)
        log.warning("shard %s: %s; its seal is withdrawn, and it is encoded again", seal.name, damage)
    return withdrawn


def load_seal(plan: Plan, collection: Collection, seal: Seal, *, run: str) -> Loaded:
    """Every part into the collection, then the ledger."""
    begun = time.monotonic()
    cut = 0

    def load(part: Part) -> pa.Table:
        nonlocal cut
        rows = plan.checkpoint.sealed_part(part)
        cut += load_part(collection, rows, seal.shard).cut
        return rows

    ShardKeys(plan.checkpoint).keep(seal, load)
    entry = Loaded(
        shard=seal.shard,
        group=seal.group,
        rows=seal.embedded,
        seal=seal.digest,
        cut=cut,
        run=run,
        seconds=round(time.monotonic() - begun, 3),
        loaded_at=utc_now(),
    )
    plan.checkpoint.record_load(plan.target, entry)
    return entry


@task(name="tidy", cache_policy=NO_CACHE)
def remove_superseded(run: Run, plan: Plan, collection: Collection) -> int:
    """Rows of shards that newer ones have replaced leave the collection; the number of shards.

    After every new shard is loaded, so that a row that both hold has its new shard by then and stays; so not
    in a run in which a shard failed: what it should have replaced is still the best there is. Nor where a mirror
    would lose more rows than it may.
    """
    if run.journal.failed:
        return 0
    planned = DigestSet(shard.id for shard in plan)
    mirror = run.job.target.mode == "mirror"
    beyond = plan.checkpoint.loads(plan.target, but=planned)
    gone = list(superseded(beyond, planned=planned, groups=plan.spool.groups, mirror=mirror))
    if gone:
        collection.settle()
    refused = _why_not(plan, collection, gone) if mirror and gone else None
    if refused:
        run.journal.note_refusal(refused)
        return 0
    for entry in gone:
        collection.delete_shard(entry.shard)
        plan.checkpoint.forget_load(plan.target, entry.shard)
    return len(gone)


def _why_not(plan: Plan, collection: Collection, gone: list[Loaded]) -> str | None:
    """Counted as rows carry their shards now: a row that moved to a newer shard does not leave with the old one."""
    ours = {entry.shard for entry in gone}
    staying = sum(entry.rows for entry in plan.checkpoint.loads(plan.target) if entry.shard not in ours)
    leaving = sum(collection.count(shard) for shard in ours)
    return why_not_to_shrink(plan.job.target, leaving=leaving, staying=staying)
