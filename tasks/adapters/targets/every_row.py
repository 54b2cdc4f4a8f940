"""Compares every row of a collection with its seal: part by part, several parts concurrently, with bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tasks.adapters.concurrent_map import ahead
from tasks.adapters.targets.shard_counts import CountedShard, Sealed
from tasks.domain.ports import Collection
from tasks.domain.shards.seal import Part
from tasks.domain.target.chunk_fields import chunk_key, split_chunk_key
from tasks.domain.target.difference import Compared, Difference

PARTS_AT_ONCE = 4  # concurrent comparisons: each mostly waits for the server
HELD_BYTES = 256 << 20  # of sealed parts in memory at a time; a larger single part is admitted alone
KEYS_PER_LOOKUP = 10_000
MOST_SEEN = 100_000  # differences that are remembered by key, to count none twice

Watch = Callable[[int], None]  # receives the rows that were compared since the last call


class _Room:
    """Admits threads while their total memory fits."""

    def __init__(self, size: int) -> None:
        self._size, self._used, self._freed = size, 0, threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._freed:
                self._used -= size
                self._freed.notify_all()


def compare_parts(collection: Collection, shards: Iterable[CountedShard]) -> Iterator[tuple[CountedShard, Compared | None]]:
    """Compare each part; yields the outcomes in order, and None at the end of each shard."""
    room = _Room(HELD_BYTES)

    def parts() -> Iterator[tuple[CountedShard, Part | None]]:
        for counted in shards:
            yield from ((counted, part) for part in counted.sealed.seal.parts)
            yield counted, None

    def compare(at: tuple[CountedShard, Part | None]) -> tuple[CountedShard, Compared | None]:
        counted, part = at
        if part is None:
            return counted, None
        with room.of(part.bytes):
            return counted, collection.compare(counted.sealed.read(part), doubled=False)

    yield from ahead(compare, parts(), at_once=PARTS_AT_ONCE)


@dataclass(slots=True)
class ComparisonTally:
    """Row counts of a shard, summed over its compared parts."""

    rows: int = 0
    missing: int = 0  # absent, or under another shard

    def add(self, compared: Compared) -> None:
        self.rows += compared.rows
        self.missing += sum(each.kind in ("absent", "shard") for each in compared.differences)

    def has_leftovers(self, counted: CountedShard) -> bool:
        """Whether the shard has rows beyond the compared ones: the rows found by key differ from its count."""
        return counted.found != self.rows - self.missing


def every_difference(
    collection: Collection, shards: Iterable[CountedShard], known: Container[str], watch: Watch, *, chunks: bool = False
) -> Iterator[Difference]:
    """All differences of some shards, except rows that known shards took over from retained ones. `chunks`: rows are chunks."""
    tally = ComparisonTally()
    for counted, compared in compare_parts(collection, shards):
        if compared is not None:
            tally.add(compared)
            watch(compared.rows)
            retained = counted.sealed.retained
            differences = taken_with_document(collection, compared.differences) if retained and chunks else compared.differences
            yield from (each for each in differences if not (retained and each.kind == "shard" and each.held_by in known))
            continue
        if tally.has_leftovers(counted) and not counted.sealed.is_unsealed:
            yield from leftovers(collection, counted)
        tally = ComparisonTally()


def leftovers(collection: Collection, counted: CountedShard) -> Iterator[Difference]:
    """Keys that carry a shard and are not in its seal, and sealed keys that occur more than once."""
    seal = counted.sealed.seal
    extra = set(collection.keys(seal.shard))
    for part in seal.parts:
        extra.difference_update(counted.sealed.read(part)["id"].to_pylist())
    yield from (Difference(key=key, kind="extra", shard=seal.shard) for key in sorted(extra))
    for part in seal.parts:
        compared = collection.compare(counted.sealed.read(part))
        yield from (each for each in compared.differences if each.kind == "doubled")


def missing_keys(collection: Collection, sealed: Sealed) -> Iterator[Difference]:
    """Sealed keys of a shard that are absent or carry another shard; compares keys only."""
    seal = sealed.seal
    present = set(collection.keys(seal.shard))
    for part in seal.parts:
        missing = [key for key in sealed.read(part)["id"].to_pylist() if key not in present]
        for first in range(0, len(missing), KEYS_PER_LOOKUP):
            some = missing[first : first + KEYS_PER_LOOKUP]
            holders = collection.shards_of(some)
            for key in some:
                holder = holders.get(key)
                if holder != seal.shard:
                    kind = "shard" if holder else "absent"
                    yield Difference.model_validate({"key": key, "kind": kind, "shard": seal.shard, "held_by": holder or ""})


def taken_with_document(collection: Collection, found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Attribute absent chunks of a retained shard to the shard that now has their document, in a version with fewer chunks."""
    differences = tuple(found)
    firsts = {each.key: chunk_key(split_chunk_key(each.key)[0], 0) for each in differences if each.kind == "absent"}
    holders = collection.shards_of(sorted(set(firsts.values()))) if firsts else {}
    taken = {each.key: holders.get(firsts[each.key], each.shard) for each in differences if each.kind == "absent"}
    return tuple(
        each.model_copy(update={"kind": "shard", "held_by": taken[each.key]}) if taken.get(each.key, each.shard) != each.shard else each
        for each in differences
    )


@dataclass(slots=True)
class DifferenceSummary:
    """Differences so far: counts of all, and up to `named` examples of each kind. Omits rows that known shards took over from retained ones."""

    named: int
    retained: set[str] = field(default_factory=set)
    examples: dict[str, list[Difference]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _taken: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)
    _taken_rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, found: Iterable[Difference]) -> int:
        """Add differences; return their number of keys, without rows that a known shard may have taken over."""
        keys = set()
        for each in found:
            if each.kind == "shard" and each.shard in self.retained:
                self._note_taken(each)
            elif (each.key, each.named) not in self._seen:  # the counts and the sample may report the same difference
                self._note(each)
                keys.add(each.key)
        return len(keys)

    def resolve(self, known: set[str]) -> None:
        """Add rows that were taken over by unknown shards, once all known shards are given."""
        for (shard, holder), examples in self._taken.items():
            if holder not in known:
                for each in examples:
                    self._note(each)
                more = self._taken_rows[shard, holder] - len(examples)
                self.kinds["shard"] += more
                self.shards[shard] += more

    def _note_taken(self, each: Difference) -> None:
        shards = (each.shard, each.held_by)
        self._taken_rows[shards] = self._taken_rows.get(shards, 0) + 1
        examples = self._taken.setdefault(shards, [])
        if len(examples) < self.named:
            examples.append(each)

    def _note(self, each: Difference) -> None:
        if len(self._seen) < MOST_SEEN:
            self._seen.add((each.key, each.named))
        self.kinds[each.named] = self.kinds.get(each.named, 0) + 1
        self.shards[each.shard] = self.shards.get(each.shard, 0) + 1
        examples = self.examples.setdefault(each.named, [])
        if len(examples) < self.named:
            examples.append(each)
