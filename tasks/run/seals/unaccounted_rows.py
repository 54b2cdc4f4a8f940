"""Rows of a collection that no seal of the plan accounts for."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.targets.shard_counts import CountPatience
from tasks.domain.ports import Collection
from tasks.run.plan import Plan

LOADED_SECONDS, LOOKING_SECONDS = 60.0, 15.0  # for which counts that are too high are asked again


def strangers(plan: Plan, collection: Collection) -> Iterator[tuple[str, str]]:
    """Key and shard of every row that no seal accounts for: not the plan's, none that is retained, no other corpus' own.

    Rows of a planned shard that is not sealed now, since its seal was withdrawn, are the best there is of it, and none of these.
    None if the collection is shared: they belong to other writers.
    """
    if plan.job.target.shared:
        return
    known = {shard.id for shard in plan} | {entry.shard for entry in plan.checkpoint.loads(plan.target)}
    if collection.count_beyond(known):
        known |= set(plan.checkpoint.loads_of_others(plan.target))
        yield from collection.strangers(known)


def clock_of(collection: Collection, *, looking: bool = False) -> CountPatience:
    """A server may over-count for a while after a run has loaded; less so for who only looks."""
    if not collection.target.overcounts:
        return CountPatience(settle=0)
    return CountPatience(settle=LOOKING_SECONDS if looking else LOADED_SECONDS)
