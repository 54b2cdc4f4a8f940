"""Stale rows: those in the collection that are no longer in the plan. They are removed by a rule and counted, or retained and accounted for."""

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

OVERWRITTEN = "whose keys came again in other files"


@task(name="tidy", cache_policy=NO_CACHE)
def remove_stale(run: Run, plan: Plan, collection: Collection) -> None:
    """Rows of shards that are no longer planned leave the collection, or are put in order to stay.

    After every new shard is loaded, so that a row that both hold has its new shard by then and stays; so not in a run in which a
    shard failed: what it should have replaced is still the best there is. Nor where a mirror would lose more rows than it may, or where
    so many rows are quarantined that the run fails: those that came before them are still the best there is as well. Nor where another run
    has loaded since this one was planned.
    """
    if run.journal.failed:
        return
    # What stays and was in order before changes only where something was loaded.
    stale = [each for each in unplanned(plan) if each.rule or plan.loading or each.entry.state in ("loading", "doubted")]
    if stale:
        collection.flush_and_index()
    counts = dict(ahead(lambda each: (each.entry.shard, collection.count(each.entry.shard)), stale))
    leaving = _allowed(run, plan, collection, [each for each in stale if each.rule], counts)
    for each in leaving:
        collection.delete_shard(each.entry.shard)
        plan.checkpoint.forget_load(plan.target, each.entry.shard)
    _tell(run, leaving, counts)
    staying = sorted((each.entry for each in stale if not each.rule), key=_loaded_at, reverse=True)
    overwritten = sum(_keep(run, plan, collection, entry, counts[entry.shard]) for entry in staying)
    if overwritten:
        run.journal.note_removal(f"{overwritten:,} rows {OVERWRITTEN}", overwritten)
    _note_moved(plan)


def _loaded_at(entry: Loaded) -> tuple[str, str]:
    return entry.loaded_at, entry.run  # the first to the second; run ids sort by time


def _allowed(run: Run, plan: Plan, collection: Collection, leaving: list[UnplannedShard], counts: dict[str, int]) -> list[UnplannedShard]:
    """Those that may leave now; the journal is told why others stay."""
    late = [each.entry for each in leaving if _is_late(run, plan, each.entry)]
    ours = [each for each in leaving if each.entry not in late]
    overtaken = next((_overtaken(entry) for entry in late if counts[entry.shard]), None)
    if refused := overtaken or _why_not(plan, collection, ours, counts):
        run.journal.note_refusal(refused)
        return []
    if kept := _over_quarantine(plan, sum(counts[each.entry.shard] for each in ours)):
        run.journal.note(kept)
        return []
    return ours


def _is_late(run: Run, plan: Plan, entry: Loaded) -> bool:
    """Whether another run, of a source as it was later or earlier, has begun it since this one was planned; by the ledger, whatever clocks say."""
    return entry.run != run.id and plan.noted is not None and entry.shard not in plan.noted


def _overtaken(entry: Loaded) -> str:
    return f"run {entry.run} has loaded another version of '{entry.group}' since this run began: nothing was removed; run the job again"


def _why_not(plan: Plan, collection: Collection, leaving: list[UnplannedShard], counts: dict[str, int]) -> str | None:
    """Counted as rows carry their shards now: a row that moved to a newer shard does not leave with the old one.

    The ledger counts a key as often as it comes in several shards; the collection holds it once, but may hold rows of others.
    """
    if plan.job.target.mode != "mirror" or not leaving:
        return None
    ours = {each.entry.shard for each in leaving}
    going = sum(counts[shard] for shard in ours)
    entered = sum(entry.rows for entry in plan.checkpoint.loads(plan.target, but=ours))
    staying = min(entered, max(0, collection.count() - going))
    return why_not_to_shrink(plan.job.target, leaving=going, staying=staying)


def _over_quarantine(plan: Plan, rows: int) -> str | None:
    """That rows which would leave stay, since the run fails by what it quarantined; None where it does not."""
    totals = count_seals(plan, encoded_now={}) if rows else None
    if totals is None or not over_quarantine(totals.rows, plan.job.failures.max_quarantined):
        return None
    return (
        f"{rows:,} rows that are no longer in the source stay in the collection until no more rows are quarantined than "
        f"failures.max_quarantined allows ({plan.job.failures.max_quarantined:g})"
    )


def _tell(run: Run, leaving: list[UnplannedShard], counts: dict[str, int]) -> None:
    """How many rows left, and by which rule."""
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
    """Keep of a shard whose files have left the source only rows that no other shard owns; the number of rows removed."""
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
    """An append keeps rows of files that have left the source: load those of the collection that was promoted, from its seals.

    After the shards of the plan, and the newest first, so that a key which came again stays with the newer file.
    """
    source = _promoted_ledger(plan)
    if plan.job.target.mode == "mirror" or source is None or run.journal.failed:
        return
    with run.journal.during("load"):
        known = DigestSet([*(shard.id for shard in plan), *(entry.shard for entry in plan.checkpoint.loads(plan.target))])
        for entry in sorted(plan.checkpoint.loads(source, but=known), key=_loaded_at, reverse=True):
            begin_loading(plan, collection)
            intent = entry.model_copy(update={"state": "loading", "run": run.id})
            plan.checkpoint.intend_load(plan.target, intent)
            restored = restore(run, plan, collection, intent)
            rows = collection.count(entry.shard)
            plan.checkpoint.intend_load(plan.target, restored.model_copy(update={"state": "outdated", "rows": rows}))


def _promoted_ledger(plan: Plan) -> str | None:
    """The ledger of the collection of this encoder that the alias last pointed to, where that is another one."""
    moves = Promotions(plan.inspected.store, plan.job).of_encoder(plan.spec.fingerprint)
    known = [move.ledger for move in reversed(moves) if move.ledger]
    last = next(iter(known), None) or _proved_last(plan)
    return last if last != plan.target else None


def _proved_last(plan: Plan) -> str | None:
    """The same for collections older than the promotion log: the one that was verified last."""
    folder = plan.checkpoint.layout.all_loads
    proofs = [found for found in plan.checkpoint.store.list(folder) if found.key.endswith("/verified.json")]
    newest = max(proofs, key=lambda found: found.modified, default=None)
    return newest.key.removeprefix(folder).partition("/")[0] if newest else None


def restore(run: Run, plan: Plan, collection: Collection, entry: Loaded) -> Loaded:
    """Load what a shard sealed, less the rows whose keys another shard holds by now; the entry, which names the seal that was loaded."""
    seal = plan.checkpoint.effective_seal(entry.shard)
    if seal is None:
        run.journal.note(
            f"the seal of {entry.group} ({entry.shard}) is missing, and its file is no longer in the source: its rows stay as they are"
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
    """Where the files were moved, the ledger says from here on that they stand at their new place."""
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
