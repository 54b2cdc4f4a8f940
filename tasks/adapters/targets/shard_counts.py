"""The counts of a proof: rows of every shard, and rows of the collection that belong to no shard."""

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

FAULTS_NAMED = 10  # faults of each kind that are listed one by one
STRONG_COUNTS_AT_ONCE = 32  # concurrent strong counts: each waits some 0.3 s for the server's clock, so many take as long as one

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
    """A sealed shard that must be in the collection. `retained`: newer shards may hold some of its rows."""

    seal: Seal
    read: ReadPart
    retained: bool = False

    @property
    def is_unsealed(self) -> bool:
        """Whether its seal is missing and only the ledger records it."""
        return self.retained and self.seal.rows > 0 and not self.seal.parts


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedShard:
    """A sealed shard, and how many rows in the collection carry it."""

    sealed: Sealed
    found: int

    @property
    def miscounted(self) -> bool:
        expected = self.sealed.seal.rows
        return self.found > expected if self.sealed.retained else self.found != expected


class Waiting:
    """Repeats counts that are too high until a deadline, which all counts of a proof share."""

    def __init__(self, clock: CountPatience) -> None:
        self._clock, self._deadline = clock, clock.now() + clock.settle

    def until(self, settled: Callable[[], bool]) -> None:
        while not settled() and self._clock.now() < self._deadline:
            self._clock.sleep(self._clock.pause)


def count_shards(collection: Collection, shards: Iterable[Sealed], waiting: Waiting) -> Iterator[CountedShard]:
    """Count shards, in the order given; several concurrently, since a strong count mostly waits for the server's clock."""

    def count(sealed: Sealed) -> CountedShard:
        found = 0

        def settled() -> bool:
            nonlocal found
            found = collection.count(sealed.seal.shard)
            return found <= sealed.seal.rows

        waiting.until(settled)
        return CountedShard(sealed=sealed, found=found)

    pending: deque[Future[CountedShard]] = deque()
    with ThreadPoolExecutor(STRONG_COUNTS_AT_ONCE) as pool:
        for sealed in shards:
            pending.append(pool.submit(count, sealed))
            if len(pending) > STRONG_COUNTS_AT_ONCE:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@dataclass(slots=True, kw_only=True)
class OtherRows:
    """The rows of a collection that are not in the shards of a corpus."""

    total: int = 0  # all rows of the collection
    foreign: int = 0  # rows of other applications or corpora, counted apart
    unaccounted: int = 0
    strangers: list[Difference] = field(default_factory=list)  # examples of unaccounted rows
    reasons: list[str] = field(default_factory=list)


def count_other_rows(
    collection: Collection, known: set[str], expected: int, waiting: Waiting, *, shared: bool, elsewhere: Callable[[], Iterable[str]]
) -> OtherRows:
    """Compare the total row count with the sum over the shards.

    Args:
        collection: the whole collection.
        known: every shard that the corpus accounts for.
        expected: number of rows that carry a known shard.
        waiting: repeats counts of a server that over-counts.
        shared: whether rows of other applications are allowed, and counted apart.
        elsewhere: returns shards that other corpora account for; called only if there are rows of unknown shards.
    """
    result, others, theirs = OtherRows(), 0, set[str]()

    def settled() -> bool:
        nonlocal others, theirs
        result.total = collection.count()
        others = collection.count_beyond(known) if result.total != expected else 0
        if others and not shared and not theirs:
            theirs = set(elsewhere()) - known
        result.foreign = others if shared else sum(ahead(collection.count, theirs)) if others else 0
        return result.total <= expected + others and others <= result.foreign

    waiting.until(settled)
    result.unaccounted = max(0, others - result.foreign)
    if result.unaccounted:
        rows = islice(collection.strangers(known | theirs), FAULTS_NAMED)
        result.strangers = [Difference(key=key, kind="unaccounted", shard=shard) for key, shard in rows]
        result.reasons.append(f"{result.unaccounted:,} of {result.total:,} rows in the collection belong to no sealed shard")
    if result.total != expected + others:
        result.reasons.append(f"the collection has {result.total:,} rows in total, but {expected + others:,} counted by shard")
    return result
