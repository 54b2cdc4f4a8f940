"""Mend: correct a collection that differs from its seals, shard by shard, without encoding anything.

Surplus rows of a shard are deleted by key; missing and different ones are loaded again. Milvus 2.3.5 deletes by key
and ignores the rest of a filter, so a correct row with the same key is deleted as well. Therefore shards are counted again
after a deletion, and those that lost a row are loaded again, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

from tasks.adapters.targets.part_loading import load_free_rows
from tasks.adapters.targets.shard_counts import Sealed, Waiting, count_shards
from tasks.domain.ports import Collection
from tasks.domain.target.chunk_fields import has_chunks
from tasks.domain.target.proof import Proof
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import sealed_shards
from tasks.run.seals.shard_loading import begin_loading, load_seal, unsettle
from tasks.run.seals.unaccounted_rows import clock_of, strangers
from tasks.stages.deduplicate import assign_owners

DELETED = 10_000  # keys deleted at a time
MENDED_NAMED = 5  # shards named in a note


def mend_shards(run: Run, plan: Plan, collection: Collection, wrong: Iterable[str], *, torn: bool = False) -> int:
    """Make these shards equal to their seals; returns the number of rows removed because they are not in their shard's seal.

    Args:
        run: its journal receives the events.
        plan: has the seals.
        collection: the collection to mend.
        wrong: the shards that differ.
        torn: rows were deleted before, so that other shards may lack some.

    Raises:
        Damaged: a part that must be loaded does not match its seal.
        Transient: the server did not accept rows in time.
    """
    shards = set(wrong)
    with sealed_shards(plan) as sealed:
        removed = sum(_remove_extras(collection, each) for each in sealed if each.seal.shard in shards)
    if removed:
        run.journal.note_removal(f"{removed:,} rows that are not in the seal of their shard", removed)
    if removed or torn:
        shards |= set(_torn(plan, collection))
    _load_again(run, plan, collection, shards)
    return removed


def enter_sealed(plan: Plan, collection: Collection) -> int:
    """Restore lost ledger entries of sealed shards with rows in the collection; returns their number. The next run handles the rows."""
    lost = {shard for _, shard in strangers(plan, collection)}
    return sum(plan.checkpoint.enter_again(plan.target, shard) is not None for shard in lost if re.fullmatch(r"[0-9a-f]{32}", shard))


def remove_strangers(plan: Plan, collection: Collection) -> int:
    """Delete rows that no seal accounts for; returns their number. `mend_shards` repairs shards that lose a row by that."""
    removed = 0
    while keys := [key for key, _ in islice(strangers(plan, collection), DELETED)]:
        collection.delete_keys(keys)
        removed += len(keys)
    return removed


def _torn(plan: Plan, collection: Collection) -> Iterator[str]:
    """Yield the shards with fewer rows than their seals."""
    with sealed_shards(plan) as sealed:
        for counted in count_shards(collection, sealed, Waiting(clock_of(collection))):
            if counted.found < counted.sealed.seal.rows:
                yield counted.sealed.seal.shard


def _remove_extras(collection: Collection, sealed: Sealed) -> int:
    seal = sealed.seal
    if sealed.is_unsealed:
        return 0
    extra = set(collection.keys(seal.shard))
    for part in seal.parts:
        extra.difference_update(sealed.read(part)["id"].to_pylist())
    collection.delete_keys(sorted(extra))
    return len(extra)


def _load_again(run: Run, plan: Plan, collection: Collection, shards: set[str]) -> None:
    if not shards:
        return
    begin_loading(plan, collection)
    unsettle(plan)  # also if this run has loaded before
    since = {entry.shard: (entry.loaded_at, entry.run) for entry in plan.checkpoint.loads(plan.target)}
    known = {shard.id for shard in plan} | since.keys()
    with sealed_shards(plan) as sealed:
        # The newest first, because it owns keys that occur again.
        retained = [each for each in sealed if each.seal.shard in shards and each.retained]
        for each in sorted(retained, key=lambda each: since.get(each.seal.shard, ("", "")), reverse=True):
            _load_retained(plan, collection, each, known)
    for shard in plan:
        seal = plan.checkpoint.effective_seal(shard.id) if shard.id in shards else None
        if seal is not None:
            run.journal.note_load(load_seal(plan, collection, shard, seal, run=run.id))
    assign_owners.fn(run, plan, collection)
    collection.flush_and_index()


def _load_retained(plan: Plan, collection: Collection, sealed: Sealed, known: set[str]) -> None:
    """Load a retained shard, except rows with keys that a known shard has taken over."""
    seal = sealed.seal
    plan.checkpoint.refuse_condemned(seal)
    for part in seal.parts:
        load_free_rows(collection, sealed.read(part), seal.shard, others=known, chunks=has_chunks(plan.spec.fields))
    entry = plan.checkpoint.read_load(plan.target, seal.shard)
    if entry:
        state = {"state": "outdated", "rows": collection.count(seal.shard), "seal": seal.digest}
        plan.checkpoint.intend_load(plan.target, entry.model_copy(update=state))


def format_mending(proof: Proof, names: list[str], removed: int) -> str:
    """Format the differences found and the repairs made."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(proof.kinds.items()))
    more = f" and {len(names) - MENDED_NAMED:,} more" if len(names) > MENDED_NAMED else ""
    differences = (
        f"the proof found differences{f' ({kinds})' if kinds else ''} in {len(names):,} shards ({', '.join(names[:MENDED_NAMED])}{more})"
    )
    deleted = f"{removed:,} rows without a seal were removed, and " if removed else ""
    return f"{differences}: {deleted}they were loaded again from their seals and verified again"
