"""Rounds: committed documents that were damaged since are withdrawn, encoded or loaded again, and verified, all in one run.

In each round missing shards are encoded and loaded, every document that the run relies on is read, the collection is verified.
Where a document cannot be read it has been moved aside (`tasks.adapters.checkpoint.damaged_documents`), and where the reading of a part reveals
that it does not match its seal the seal is withdrawn; either way the shard is missing now, and another round follows.
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
    """What a run rests on was damaged, and some of it is to do again."""


@dataclass(slots=True)
class Rounds:
    """The rounds of a run.

    Args:
        run: the run.
        plan: its plan.
        collection: the collection to load into.
        loaded: shards for which the first round has nothing to do; None: to be found out.
        encodes: whether it can encode shards that have to be sealed again.
        seals: seal it before each round, since none of them does.
    """

    run: Run
    plan: Plan
    collection: Collection
    loaded: Container[str] | None = None
    encodes: bool = True
    seals: bool = False
    _amended: set[str] = field(default_factory=set)  # shards of which an amendment was taken back
    _tried: set[str] = field(default_factory=set)  # those of them whose rows were tried again

    def go(self, once: Callable[[Iterator[list[Shard]]], R]) -> R:
        """Go round until nothing is found damaged; what the last round gives.

        Args:
            once: one round: takes the groups that are to be encoded and loaded, calls `check`, proves and reports.

        Raises:
            Permanent: it comes to no end.
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
        raise Permanent(f"the checkpoint {store} was found damaged {MOST_ROUNDS} times within this run: its storage needs a look")

    def check(self) -> None:
        """Read every document that the plan relies on, once missing shards are loaded.

        Raises:
            Again: some were damaged, so that there is something to do again.
        """
        journal, left = self.run.journal, check_documents(self.run, self.plan)
        for shard in left:
            journal.reopen(shard)
        if left or (self.encodes and self._to_recover):
            raise Again

    def _groups(self) -> Iterator[list[Shard]]:
        """Shards that are not loaded as they are sealed now, without the failed ones."""
        if self.encodes:
            self._recover()
        done = up_to_date(self.plan) if self.loaded is None else self.loaded
        return self.plan.groups(_Either(done, self.run.journal.failed))

    def _withdraw(self, damage: Damaged, *, thorough: bool) -> None:
        """Where one part is damaged, others may be: those that are gone or of another size are looked for, and then every one is read."""
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
        """Shards that have lost an amendment, and whose rows were not retried since."""
        return (self._amended | _named(_AMENDMENT, self.plan)) - self._tried

    def _recover(self) -> None:
        """Rows that an amendment had recovered are tried again before their shard is loaded without them."""
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
    """Shards of which a document of a kind was found damaged."""
    return {found[1] for key in plan.inspected.damages.keys if (found := pattern.search(key))}


@task(name="check", cache_policy=NO_CACHE)
def check_documents(run: Run, plan: Plan) -> list[str]:
    """Read every document that the plan rests on; the shards that have to be seen to again, since some were damaged."""
    with run.journal.during("plan"):
        outdated = list(look_for_damage(plan))
        if not outdated and not plan.inspected.damages.count and not run.journal.damaged:
            return []
        plan.checkpoint.distrust_loads(plan.target, outdated, "doubted")
        return [shard.id for shard in missing(plan, up_to_date(plan)) if shard.id not in run.journal.failed]
