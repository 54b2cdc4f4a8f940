"""Read all documents of a plan to detect damage before they are used."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.shards.seal import Loaded, Seal
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import seals_of


def damaged_documents(plan: Plan) -> tuple[str, ...]:
    """One line for each document that a plan depends on and that cannot be read."""
    plan.confirm_encoder()
    for _ in look_for_damage(plan):
        pass
    return tuple(plan.inspected.damages.lines)


def look_for_damage(plan: Plan) -> Iterator[str]:
    """Read every document that a plan depends on, so that unreadable ones are recorded as damaged.

    Yields the shards that, by the ledger, were loaded from another seal than their current one.
    """
    checkpoint, target = plan.checkpoint, plan.target
    loaded, planned = checkpoint.loaded_ids(target), DigestSet(shard.id for shard in plan)

    def entry_of(seal: Seal) -> tuple[Seal, Loaded | None]:
        return seal, checkpoint.read_load(target, seal.shard, intended=False) if seal.shard in loaded else None

    for seal, entry in ahead(entry_of, seals_of(plan)):
        if entry and entry.seal != seal.digest:
            yield seal.shard
    others = (shard for shard in checkpoint.noted_ids(target) if shard not in planned or shard not in loaded)
    for _ in ahead(lambda shard: checkpoint.read_load(target, shard), others):
        pass
    checkpoint.owners_to_rely_on(target)
    checkpoint.read_proof(target)
