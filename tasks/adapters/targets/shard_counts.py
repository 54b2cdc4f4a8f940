"""The counts of a proof: rows of every shard, and rows of the collection that belong to none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from tasks.adapters.concurrent_map import ahead
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Part, Seal
from tasks.domain.target.difference import Difference

FAULTS_NAMED = 10  # of a kind, in words
STRONG_COUNTS_AT_ONCE = 32  # strong counts at a time: each waits some 0.3 s for the server's clock, so that many take as long as one

ReadPart = Callable[[Part], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountPatience:
    """How the proof waits for a server that over-counts."""

    settle: float = 60.0  # seconds, for all shards together
    pause: float = 2.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A shard that the collection has to show. `retained`: newer shards may hold some of its rows."""

    seal: Seal
    read: ReadPart
    retained: bool = False

    @property
    def is_unsealed(self) -> bool:
        """Whether only the ledger records it."""
        return self.retained and self.seal.rows > 0 and not self.seal.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShard:
    """The same, and how many rows carry it."""

    sealed: Sealed
    found: int

    @property
    def miscounted(self) -> bool:
        due = self.sealed.seal.rows
        return self.found > due if self.sealed.retained else self.found != due


class Waiting:
    """Counts that are too high are asked again until a deadline, which is one for all."""

    def __init__(self, clock: CountPatience) -> None:
        self._clock, self._deadline = clock, clock.now() + clock.settle

    def until(self, settled: Callable[[], bool]) -> None:
        while not settled() and self._clock.now() < self._deadline:
            self._clock.sleep(self._clock.pause)


def count_shards(collection: Collection, shards: Iterable[Sealed], waiting: Waiting) -> Iterator[CountedShard]:
    """Counts in the order given; some run at once, since a strong count mostly waits for the server's clock."""

    def count(sealed: Sealed) -> CountedShard:
        found = 0

        def settled() -> bool:
            nonlocal found
            found = collection.count(sealed.seal.shard)
            return found <= sealed.seal.rows

        waiting.until(settled)
        return CountedShard(sealed=sealed, found=found)

    asked: deque[Future[CountedShard]] = deque()
    with ThreadPoolExecutor(STRONG_COUNTS_AT_ONCE) as pool:
        for sealed in shards:
            asked.append(pool.submit(count, sealed))
            if len(asked) > STRONG_COUNTS_AT_ONCE:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()


@dataclass(slots=True, kw_only=True)
class Beside:
    """What a collection holds beside the shards of a corpus."""

    total: int = 0
    foreign: int = 0  # rows of other applications, counted apart
    unaccounted: int = 0
    strangers: list[Difference] = field(default_factory=list)  # some of those
    reasons: list[str] = field(default_factory=list)


def count_beside(
    collection: Collection, known: set[str], expected: int, waiting: Waiting, *, shared: bool, elsewhere: Callable[[], Iterable[str]]
) -> Beside:
    """Hold the total against the sum over the shards.

    Args:
        collection: all of it.
        known: every shard that the corpus accounts for.
        expected: rows that carry those.
        waiting: for a server that over-counts.
        shared: rows of other applications are counted apart.
        elsewhere: shards that other corpora account for; asked only where there are rows of others.
    """
    found, others, theirs = Beside(), 0, set[str]()

    def settled() -> bool:
        nonlocal others, theirs
        found.total = collection.count()
        others = collection.count_beyond(known) if found.total != expected else 0
        if others and not shared and not theirs:
            theirs = set(elsewhere()) - known
        found.foreign = others if shared else sum(ahead(collection.count, theirs)) if others else 0
        return found.total <= expected + others and others <= found.foreign

    waiting.until(settled)
    found.unaccounted = max(0, others - found.foreign)
    if found.unaccounted:
        rows = islice(collection.strangers(known | theirs), FAULTS_NAMED)
        found.strangers = [Difference(key=key, kind="unaccounted", shard=shard) for key, shard in rows]
        found.reasons.append(f"{found.unaccounted:,} of {found.total:,} rows in the collection are of no shard that a seal accounts for")
    if found.total != expected + others:
        found.reasons.append(f"the collection holds {found.total:,} rows in all, and {expected + others:,} by their shards")
    return found
