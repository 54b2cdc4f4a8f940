"""Rows of a collection that no seal of the plan accounts for."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.targets.shard_counts import CountPatience
from tasks.domain.ports import Collection
from tasks.run.plan import Plan

LOADED_SECONDS, LOOKING_SECONDS = 60.0, 15.0  # for which too high counts are read again, after loading and without it


def strangers(plan: Plan, collection: Collection) -> Iterator[tuple[str, str]]:
    """Yield key and shard of every row that no seal accounts for: of the plan, of retained shards, or of another corpus.

    Rows of a planned shard whose seal was withdrawn are not among them: they are the only copy until it is sealed again.
    Yields nothing if the collection is shared, since such rows belong to other writers.
    """
    if plan.job.target.shared:
        return
    known = {shard.id for shard in plan} | {entry.shard for entry in plan.checkpoint.loads(plan.target)}
    if collection.count_beyond(known):
        known |= set(plan.checkpoint.loads_of_others(plan.target))
        yield from collection.strangers(known)


def clock_of(collection: Collection, *, looking: bool = False) -> CountPatience:
    """How long to repeat too high counts: a server may over-count for a while after loading. `looking`: for commands that only read."""
    if not collection.target.overcounts:
        return CountPatience(settle=0)
    return CountPatience(settle=LOOKING_SECONDS if looking else LOADED_SECONDS)
