"""Rounds: repair damaged committed documents within one run, by encoding or loading their shards again and verifying them.

Each round encodes and loads missing shards, reads every document that the run relies on, and verifies the collection. An
unreadable document is moved aside (`tasks.adapters.checkpoint.damaged_documents`); if a part does not match its seal, the
seal is withdrawn. Either way the shard is then missing, and another round follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.errors import Damaged, Permanent
from tasks.domain.ports import Collection
from tasks.domain.shards.resume import missing
from tasks.domain.shards.seal import Seal
from tasks.domain.shards.shard import Shard
from tasks.run.context import Run
from tasks.run.plan import Plan
from tasks.run.seals.damage import look_for_damage
from tasks.run.seals.effective_seals import retained_seals, seals_of
from tasks.run.seals.shard_loading import up_to_date, withdraw
from tasks.stages.encode import seal_again
from tasks.stages.retry_quarantined import recover

MOST_ROUNDS = 5  # one to find the damage, one to repair it; further damage happens during the run
R = TypeVar("R")
_AMENDMENT, _SEAL = re.compile(r"/shards/([0-9a-f]{32})/amend-"), re.compile(r"/shards/([0-9a-f]{32})/seal\.json")


class Again(Exception):
    """Documents that a run relies on were damaged, so another round is needed."""


@dataclass(slots=True)
class Rounds:
    """The rounds of a run.

    Args:
        run: the run.
        plan: its plan.
        collection: the collection to load into.
        loaded: shards for which the first round has nothing to do; None: read them from the checkpoint.
        encodes: whether the run can encode shards that must be sealed again.
        seals: encode damaged shards before each round, because the rounds themselves do not.
    """

    run: Run
    plan: Plan
    collection: Collection
    loaded: Container[str] | None = None
    encodes: bool = True
    seals: bool = False
    _amended: set[str] = field(default_factory=set)  # shards of which an amendment was withdrawn
    _tried: set[str] = field(default_factory=set)  # those of them whose rows were retried

    def go(self, once: Callable[[Iterator[list[Shard]]], R]) -> R:
        """Repeat rounds until no damage is found; returns the result of the last round.

        Args:
            once: one round: encodes and loads the given groups, calls `check`, verifies and reports.

        Raises:
            Permanent: damage was found in every one of MOST_ROUNDS rounds.
        """
        for number in range(MOST_ROUNDS):
            try:
                return once(self._groups())
            except Again:
                self.loaded = None
            except Damaged as damage:
                self._withdraw(damage, thorough=number > 0)
                if not self.encodes:
                    raise Permanent(f"{damage}; its shard's seal is withdrawn: `kitestring run` encodes it again") from None
        store = self.plan.checkpoint.store.url
        raise Permanent(f"the checkpoint {store} was found damaged {MOST_ROUNDS} times within this run: check its storage")

    def check(self) -> None:
        """Read every document that the plan relies on, after missing shards are loaded.

        Raises:
            Again: some were damaged, so another round is needed.
        """
        journal, unfinished = self.run.journal, check_documents(self.run, self.plan)
        for shard in unfinished:
            journal.reopen(shard)
        if unfinished or (self.encodes and self._to_recover):
            raise Again

    def _groups(self) -> Iterator[list[Shard]]:
        """Yield groups of the shards whose current seals are not loaded, except failed ones."""
        if self.encodes:
            self._recover()
        done = up_to_date(self.plan) if self.loaded is None else self.loaded
        return self.plan.groups(_Either(done, self.run.journal.failed))

    def _withdraw(self, damage: Damaged, *, thorough: bool) -> None:
        """Withdraw the damaged part's seal and those with missing parts or parts of another size; if `thorough`, check every part."""
        self.loaded = None
        for seal in chain(seals_of(self.plan), retained_seals(self.plan)):
            suspect = thorough or f"/shards/{seal.shard}/" in damage.key or self._lacks(seal)
            if suspect and withdraw(self.run, self.plan, seal, damage) and any(part.amendment for part in seal.parts):
                self._amended.add(seal.shard)

    def _lacks(self, seal: Seal) -> bool:
        sizes = {stored.key: stored.size for stored in self.plan.checkpoint.parts_of(seal.shard)}
        return any(sizes.get(part.key) != part.bytes for part in seal.parts)

    @property
    def _to_recover(self) -> set[str]:
        """Shards that have lost an amendment and whose rows were not retried since."""
        return (self._amended | _named(_AMENDMENT, self.plan)) - self._tried

    def _recover(self) -> None:
        """Retry rows that a lost amendment had recovered, before their shard is loaded without them."""
        rows, lost = self._to_recover, {*self.run.journal.damaged, *_named(_SEAL, self.plan)} if self.seals else set()
        for shard in self.plan if rows or lost else ():
            if shard.id in rows | lost:
                self._recover_shard(shard, rows=shard.id in rows)
        self._tried |= rows

    def _recover_shard(self, shard: Shard, *, rows: bool) -> None:
        try:
            if self.plan.checkpoint.read_seal(shard.id) is None:
                seal_again(self.run, self.plan, shard)
            if rows:
                recover(self.run, self.plan, shard)
        except Permanent as error:
            self.run.journal.note_failure(shard, error)


@dataclass(frozen=True, slots=True)
class _Either(Container[str]):
    one: Container[str]
    other: Container[str]

    def __contains__(self, shard: object) -> bool:
        return shard in self.one or shard in self.other


def _named(pattern: re.Pattern[str], plan: Plan) -> set[str]:
    """Return the shards with a damaged document whose key matches the pattern."""
    return {match[1] for key in plan.inspected.damages.keys if (match := pattern.search(key))}


@task(name="check", cache_policy=NO_CACHE)
def check_documents(run: Run, plan: Plan) -> list[str]:
    """Read every document that the plan relies on; returns the shards to process again because of damage."""
    with run.journal.during("plan"):
        outdated = list(look_for_damage(plan))
        if not outdated and not plan.inspected.damages.count and not run.journal.damaged:
            return []
        plan.checkpoint.distrust_loads(plan.target, outdated, "doubted")
        return [shard.id for shard in missing(plan, up_to_date(plan)) if shard.id not in run.journal.failed]
