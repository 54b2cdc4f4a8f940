"""Load: write sealed shards to the collection, and record them in the ledger once the server has acknowledged them."""

from __future__ import annotations

import logging

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.encoding.encoding_spec import LoadGroup
from tasks.domain.errors import Damaged, Permanent
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Seal
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.group_window import name_runs
from tasks.run.plan import Plan
from tasks.run.seals.shard_loading import begin_loading, load_seal, remove_strays, withdraw
from tasks.stages.encode import seal_again, worth_another_try
from tasks.stages.retry_quarantined import recover

LEFT_TO_THE_FLOW = "hosts could not load all sealed shards, so the flow loaded the rest"
NOT_SEALED = "it is not sealed: its file is new or was changed since the last run: `kitestring run` encodes it"
log = logging.getLogger("kitestring.load")


@task(name="load", task_run_name=name_runs("load"), cache_policy=NO_CACHE, retry_delay_seconds=5, retry_condition_fn=worth_another_try)
def load_shards(run: Run, plan: Plan, collection: Collection, group: list[Shard], *, mend: bool = True) -> None:
    """Load every sealed shard of a group.

    A part that does not match its checksum is detected before any row of it is loaded: the shard's seal is withdrawn,
    and the shard is encoded again, with `mend` at once, otherwise by the next run.

    Raises:
        Permanent: a shard cannot be loaded; the first error, raised after all others are loaded.
        Transient: the server did not accept rows in time; a retry may upsert rows again without harm.
    """
    first: Permanent | None = None
    with run.journal.during("load"), run.journal.emitting(group):
        if any(plan.checkpoint.read_seal(shard.id) for shard in group):  # a refused corpus creates no collection
            begin_loading(plan, collection)
            if run.job.hosts_load:
                load_on_hosts(run, plan, collection, group)
        for shard in group:
            try:
                _load_shard(run, plan, collection, shard, mend=mend)
            except Permanent as error:
                run.journal.note_failure(shard, error)
                first = first or error
    if first:
        raise first


def load_on_hosts(run: Run, plan: Plan, collection: Collection, group: list[Shard]) -> None:
    """Load a group with the engine's hosts. Shards that no host can load are left to the flow, which reports the error.

    Raises:
        Transient: a retry may succeed.
    """
    waiting = tuple(shard for shard in group if not run.journal.has_loaded(shard))
    identity = collection.identity() or ""
    try:
        if waiting:
            run.engine.load(LoadGroup(shards=waiting, record=plan.record, collection=plan.spec, identity=identity, ledger=plan.target))
    except Permanent as error:
        if not any(note.startswith(LEFT_TO_THE_FLOW) for note in run.journal.notes):
            run.journal.note(f"{LEFT_TO_THE_FLOW}; the first reason: {error}")
    for shard in group:
        if shard.id in run.journal.replaced and run.journal.has_loaded(shard):
            seal = plan.checkpoint.effective_seal(shard.id)
            if seal is not None:
                remove_strays(run, plan, collection, seal)
            run.journal.replaced.discard(shard.id)


def _load_shard(run: Run, plan: Plan, collection: Collection, shard: Shard, *, mend: bool) -> None:
    seal = None if run.journal.has_loaded(shard) else plan.checkpoint.effective_seal(shard.id)
    if seal is None:
        if not mend and not run.journal.has_loaded(shard):
            raise Permanent(NOT_SEALED)
        return
    before = plan.checkpoint.read_load(plan.target, shard.id)
    # After an interrupted or doubted load the vectors in the collection are not relied on, so they are sent again.
    whole = run.job.hosts_load or (before is not None and before.state != "outdated")
    try:
        entry = load_seal(plan, collection, shard, seal, run=run.id, whole=whole)
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
    """Seal a shard again whose seal was withdrawn, and retry the rows that amendments had recovered; returns the new effective seal."""
    seal_again(run, plan, shard)
    if any(part.amendment for part in before.parts):
        recover(run, plan, shard)
    return plan.checkpoint.effective_seal(shard.id) or before
