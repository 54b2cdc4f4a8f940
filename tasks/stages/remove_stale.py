"""Stale rows: rows in the collection that are no longer in the plan are removed by a rule and counted, or retained and accounted for."""

from __future__ import annotations

from collections import Counter, defaultdict

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.targets.part_loading import load_free_rows, remove_leftovers
from tasks.domain.errors import Damaged
from tasks.domain.ports import Collection
from tasks.domain.report.run_report import over_quarantine
from tasks.domain.shards.removal import RULES, Rule
from tasks.domain.shards.seal import Loaded
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.deletion_limit import why_not_to_shrink
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.seals.seal_totals import count_seals
from tasks.run.seals.shard_loading import begin_loading
from tasks.run.seals.unplanned_shards import UnplannedShard, count_files, unplanned

OVERWRITTEN = "with keys that other files now have"


@task(name="tidy", cache_policy=NO_CACHE)
def remove_stale(run: Run, plan: Plan, collection: Collection) -> None:
    """Remove the rows of unplanned shards, or restore those that stay.

    Runs after all new shards are loaded, so that a row in both shards has moved to its new one and stays. Removes nothing
    if a shard failed, or if more rows are quarantined than the run allows, because the old rows are then the best available; if a
    mirror would lose more rows than it may; or if another run has loaded since this run was planned.
    """
    if run.journal.failed:
        return
    # Valid shards that stay change only if something was loaded.
    stale = [each for each in unplanned(plan) if each.rule or plan.loading or each.entry.state in ("loading", "doubted")]
    if stale:
        collection.flush_and_index()
    counts = dict(ahead(lambda each: (each.entry.shard, collection.count(each.entry.shard)), stale))
    leaving = _allowed(run, plan, collection, [each for each in stale if each.rule], counts)
    for each in leaving:
        collection.delete_shard(each.entry.shard)
        plan.checkpoint.forget_load(plan.target, each.entry.shard)
    _note_removals(run, leaving, counts)
    staying = sorted((each.entry for each in stale if not each.rule), key=_loaded_at, reverse=True)
    overwritten = sum(_keep(run, plan, collection, entry, counts[entry.shard]) for entry in staying)
    if overwritten:
        run.journal.note_removal(f"{overwritten:,} rows {OVERWRITTEN}", overwritten)
    _note_moved(plan)


def _loaded_at(entry: Loaded) -> tuple[str, str]:
    return entry.loaded_at, entry.run  # times have a resolution of one second; run ids sort by time


def _allowed(run: Run, plan: Plan, collection: Collection, leaving: list[UnplannedShard], counts: dict[str, int]) -> list[UnplannedShard]:
    """Return the shards that may be removed now; notes in the journal why others stay."""
    late = [each.entry for each in leaving if _is_late(run, plan, each.entry)]
    ours = [each for each in leaving if each.entry not in late]
    overtaken = next((_overtaken(entry) for entry in late if counts[entry.shard]), None)
    if refused := overtaken or _why_not(plan, collection, ours, counts):
        run.journal.note_refusal(refused)
        return []
    if note := _over_quarantine(plan, sum(counts[each.entry.shard] for each in ours)):
        run.journal.note(note)
        return []
    return ours


def _is_late(run: Run, plan: Plan, entry: Loaded) -> bool:
    """Whether another run has begun to load the shard since this one was planned; decided by the ledger, not by clocks."""
    return entry.run != run.id and plan.noted is not None and entry.shard not in plan.noted


def _overtaken(entry: Loaded) -> str:
    return f"run {entry.run} has loaded another version of '{entry.group}' since this run began: nothing was removed; run the job again"


def _why_not(plan: Plan, collection: Collection, leaving: list[UnplannedShard], counts: dict[str, int]) -> str | None:
    """Return why a mirror must not remove the rows; None: it may. Counts rows by their current shard: rows that moved to a newer one stay.

    The ledger counts a key once for each shard that has it; the collection has it once, but may have rows of other writers.
    """
    if plan.job.target.mode != "mirror" or not leaving:
        return None
    ours = {each.entry.shard for each in leaving}
    removed = sum(counts[shard] for shard in ours)
    entered = sum(entry.rows for entry in plan.checkpoint.loads(plan.target, but=ours))
    staying = min(entered, max(0, collection.count() - removed))
    return why_not_to_shrink(plan.job.target, leaving=removed, staying=staying)


def _over_quarantine(plan: Plan, rows: int) -> str | None:
    """Return the note that the rows stay because the run quarantined too many rows; None if it did not."""
    totals = count_seals(plan, encoded_now={}) if rows else None
    if totals is None or not over_quarantine(totals.rows, plan.job.failures.max_quarantined):
        return None
    return (
        f"{rows:,} rows that are no longer in the source stay in the collection until no more rows are quarantined than "
        f"failures.max_quarantined allows ({plan.job.failures.max_quarantined:g})"
    )


def _note_removals(run: Run, leaving: list[UnplannedShard], counts: dict[str, int]) -> None:
    """Note the number of removed rows by rule."""
    rows: Counter[Rule] = Counter()
    entries: dict[Rule, list[Loaded]] = defaultdict(list)
    for each in leaving:
        if each.rule and counts[each.entry.shard]:
            rows[each.rule] += counts[each.entry.shard]
            entries[each.rule].append(each.entry)
    for rule, count in rows.items():
        files = count_files(entries[rule])
        run.journal.note_removal(f"{count:,} rows {RULES[rule]} ({files:,} {'file' if files == 1 else 'files'})", count)


def _keep(run: Run, plan: Plan, collection: Collection, entry: Loaded, count: int) -> int:
    """Keep only those rows of a retained shard that no other shard owns; returns the number of rows removed."""
    if entry.state in ("loading", "doubted"):
        entry = restore(run, plan, collection, entry)
        count = collection.count(entry.shard)
    if has_chunks(plan.spec.fields):
        count -= remove_leftovers(collection, entry.shard)
    if not count:
        plan.checkpoint.forget_load(plan.target, entry.shard)
    elif (entry.rows, entry.state) != (count, "outdated") and entry.state != "loaded":
        plan.checkpoint.intend_load(plan.target, entry.model_copy(update={"rows": count, "state": "outdated"}))
    return max(0, entry.rows - count)


@task(name="load", cache_policy=NO_CACHE)
def load_retained(run: Run, plan: Plan, collection: Collection) -> None:
    """Load the rows that the promoted collection has retained, from its seals, because an append keeps rows of deleted files.

    Runs after the shards of the plan, the newest first, so that the newer file keeps a key that occurs again.
    """
    source = _promoted_ledger(plan)
    if plan.job.target.mode == "mirror" or source is None or run.journal.failed:
        return
    with run.journal.during("load"):
        known = DigestSet([*(shard.id for shard in plan), *(entry.shard for entry in plan.checkpoint.loads(plan.target))])
        noted = plan.checkpoint.roots(plan.target)
        for entry in sorted(plan.checkpoint.loads(source, but=known), key=_loaded_at, reverse=True):
            begin_loading(plan, collection)
            if entry.root and entry.root not in noted:
                noted.add(entry.root)
                plan.checkpoint.record_root(plan.target, entry.root)
            intent = entry.model_copy(update={"state": "loading", "run": run.id})
            plan.checkpoint.intend_load(plan.target, intent)
            restored = restore(run, plan, collection, intent)
            rows = collection.count(entry.shard)
            plan.checkpoint.intend_load(plan.target, restored.model_copy(update={"state": "outdated", "rows": rows}))


def _promoted_ledger(plan: Plan) -> str | None:
    """Return the ledger of this encoder's collection that the alias last pointed to; None if it is this collection."""
    moves = Promotions(plan.inspected.store, plan.job).of_encoder(plan.spec.fingerprint)
    known = [move.ledger for move in reversed(moves) if move.ledger]
    last = next(iter(known), None) or _proved_last(plan)
    return last if last != plan.target else None


def _proved_last(plan: Plan) -> str | None:
    """Return the ledger that was verified last, for collections older than the promotion log."""
    folder = plan.checkpoint.layout.all_loads
    proofs = [stored for stored in plan.checkpoint.store.list(folder) if stored.key.endswith("/verified.json")]
    newest = max(proofs, key=lambda stored: stored.modified, default=None)
    return newest.key.removeprefix(folder).partition("/")[0] if newest else None


def restore(run: Run, plan: Plan, collection: Collection, entry: Loaded) -> Loaded:
    """Load a shard from its seal, without rows whose keys another shard now has; returns the entry with the digest of that seal."""
    seal = plan.checkpoint.effective_seal(entry.shard)
    if seal is None:
        run.journal.note(
            f"the seal of {entry.group} ({entry.shard}) is missing, and its file is no longer in the source: its rows stay unchanged"
        )
        return entry
    try:
        plan.checkpoint.refuse_condemned(seal)
        for part in seal.parts:
            load_free_rows(collection, plan.checkpoint.verified_part(part), entry.shard, chunks=has_chunks(plan.spec.fields))
    except Damaged as damage:
        run.journal.note(
            f"{damage}, and its file is no longer in the source: rows of {entry.group} that are not in the collection are lost"
        )
    return entry.model_copy(update={"seal": seal.digest})


def _note_moved(plan: Plan) -> None:
    """Update the places in the ledger if the files were moved."""
    roots = plan.roots
    old = [root for root in plan.checkpoint.roots(plan.target) if roots.moved(root) != root] if roots.moved_from else []
    if not old:
        return
    for entry in plan.checkpoint.loads(plan.target):
        if entry.place and (place := roots.moved(entry.place)) != entry.place:
            moved = entry.model_copy(update={"place": place})
            write = plan.checkpoint.record_load if entry.state == "loaded" else plan.checkpoint.intend_load
            write(plan.target, moved)
    plan.checkpoint.record_root(plan.target, roots.now)
    for root in old:
        plan.checkpoint.forget_root(plan.target, root)
