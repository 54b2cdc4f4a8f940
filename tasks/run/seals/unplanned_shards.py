"""Shards in the ledger that are not planned: the rule by which each leaves the collection, or that it stays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.adapters.checkpoint.places.entry_places import EntryPlaces
from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.domain.shards.removal import Removal, Rule, rule_for
from tasks.domain.shards.seal import Loaded
from tasks.run.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplannedShard:
    """A shard in the ledger that is not planned. `rule`: by which it leaves the collection; None: it stays."""

    entry: Loaded
    rule: Rule | None


def unplanned(plan: Plan) -> Iterator[UnplannedShard]:
    """Yield every shard that may have rows in the collection and is not planned; streams."""
    roots, mirror, standing = plan.roots, plan.job.target.mode == "mirror", plan.spool.places()
    planned = DigestSet(shard.id for shard in plan)
    placed = EntryPlaces(plan.checkpoint)
    one_root = plan.has_one_root()
    for entry in plan.checkpoint.loads(plan.target, but=planned):
        entry = placed.of(entry)  # noqa: PLW2901
        known = one_root or entry.place is not None  # otherwise the file of this name may be of any root
        yield UnplannedShard(entry=entry, rule=rule_for(entry, roots, standing=standing if known else (), mirror=mirror))


def expected_removals(plan: Plan) -> dict[Rule, Removal]:
    """The removals of a run, by the ledger; includes rows that a newer version of their file still has."""
    by_rule: dict[Rule, list[Loaded]] = defaultdict(list)
    for each in unplanned(plan):
        if each.rule:
            by_rule[each.rule].append(each.entry)
    return {rule: Removal(rows=sum(e.rows for e in entries), files=count_files(entries)) for rule, entries in by_rule.items()}


def count_files(entries: list[Loaded]) -> int:
    """Count the files of shards: a file may have several shards, and a shard several files."""
    return sum(max(entry.files, 1) for entry in {entry.place or entry.group: entry for entry in entries}.values())
