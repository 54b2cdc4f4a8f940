"""Every row of a collection compared with its seal: part by part, several at a time, with bounded memory."""

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

PARTS_AT_ONCE = 4  # parts: most of what one waits for is the server
HELD_BYTES = 256 << 20  # of sealed parts that are held at a time; one is in any case
KEYS_PER_LOOKUP = 10_000  # keys at a time
MOST_SEEN = 100_000  # differences that are remembered by key

Watch = Callable[[int], None]  # rows that were compared since the last call


class _Room:
    """Admits threads as long as their total memory fits."""

    def __init__(self, size: int) -> None:
        self._size, self._held, self._freed = size, 0, threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        with self._freed:
            self._freed.wait_for(lambda: not self._held or self._held + size <= self._size)
            self._held += size
        try:
            yield
        finally:
            with self._freed:
                self._held -= size
                self._freed.notify_all()


def compare_parts(collection: Collection, shards: Iterable[CountedShard]) -> Iterator[tuple[CountedShard, Compared | None]]:
    """The outcome of each part, in order, and None at the end of each shard."""
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
    """A shard's rows while its parts go by."""

    rows: int = 0
    away: int = 0  # absent, or under another shard

    def add(self, compared: Compared) -> None:
        self.rows += compared.rows
        self.away += sum(each.kind in ("absent", "shard") for each in compared.differences)

    def has_leftovers(self, counted: CountedShard) -> bool:
        """Whether the shard has rows beyond the compared ones: the rows found by key differ from its count."""
        return counted.found != self.rows - self.away


def every_difference(
    collection: Collection, shards: Iterable[CountedShard], known: Container[str], watch: Watch, *, chunks: bool = False
) -> Iterator[Difference]:
    """All that differs in some shards; what known shards took from retained ones does not. `chunks`: rows are chunks."""
    tally = ComparisonTally()
    for counted, compared in compare_parts(collection, shards):
        if compared is not None:
            tally.add(compared)
            watch(compared.rows)
            taken = counted.sealed.retained
            found = taken_with_document(collection, compared.differences) if taken and chunks else compared.differences
            yield from (each for each in found if not (taken and each.kind == "shard" and each.held_by in known))
            continue
        if tally.has_leftovers(counted) and not counted.sealed.is_unsealed:
            yield from leftovers(collection, counted)
        tally = ComparisonTally()


def leftovers(collection: Collection, counted: CountedShard) -> Iterator[Difference]:
    """Keys that carry a shard and are not in its seal, and those of its keys that come more than once."""
    seal = counted.sealed.seal
    there = set(collection.keys(seal.shard))
    for part in seal.parts:
        there.difference_update(counted.sealed.read(part)["id"].to_pylist())
    yield from (Difference(key=key, kind="extra", shard=seal.shard) for key in sorted(there))
    for part in seal.parts:
        compared = collection.compare(counted.sealed.read(part))
        yield from (each for each in compared.differences if each.kind == "doubled")


def away(collection: Collection, sealed: Sealed) -> Iterator[Difference]:
    """Keys of a shard that do not carry it, by their keys alone."""
    seal = sealed.seal
    there = set(collection.keys(seal.shard))
    for part in seal.parts:
        gone = [key for key in sealed.read(part)["id"].to_pylist() if key not in there]
        for first in range(0, len(gone), KEYS_PER_LOOKUP):
            some = gone[first : first + KEYS_PER_LOOKUP]
            holders = collection.shards_of(some)
            for key in some:
                held = holders.get(key)
                if held != seal.shard:
                    kind = "shard" if held else "absent"
                    yield Difference.model_validate({"key": key, "kind": kind, "shard": seal.shard, "held_by": held or ""})


def taken_with_document(collection: Collection, found: Iterable[Difference]) -> tuple[Difference, ...]:
    """Chunks of a retained shard that are nowhere, since another shard holds their document in a shorter form, count as that shard's."""
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
    """Differences so far: all counted, some kept. Rows that known shards took over from retained ones are no difference."""

    named: int
    retained: set[str] = field(default_factory=set)
    kept: dict[str, list[Difference]] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)
    _taken: dict[tuple[str, str], list[Difference]] = field(default_factory=dict)
    _taken_rows: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, found: Iterable[Difference]) -> int:
        """Take in differences; of how many keys they are, less those that a known shard may have taken."""
        keys = set()
        for each in found:
            if each.kind == "shard" and each.shard in self.retained:
                self._note_taken(each)
            elif (each.key, each.named) not in self._seen:  # the counts and the sample may both find it
                self._note(each)
                keys.add(each.key)
        return len(keys)

    def resolve(self, known: set[str]) -> None:
        """Judge what others have taken, now that all shards are known."""
        for (shard, holder), kept in self._taken.items():
            if holder not in known:
                for each in kept:
                    self._note(each)
                more = self._taken_rows[shard, holder] - len(kept)
                self.kinds["shard"] += more
                self.shards[shard] += more

    def _note_taken(self, each: Difference) -> None:
        place = (each.shard, each.held_by)
        self._taken_rows[place] = self._taken_rows.get(place, 0) + 1
        kept = self._taken.setdefault(place, [])
        if len(kept) < self.named:
            kept.append(each)

    def _note(self, each: Difference) -> None:
        if len(self._seen) < MOST_SEEN:
            self._seen.add((each.key, each.named))
        self.kinds[each.named] = self.kinds.get(each.named, 0) + 1
        self.shards[each.shard] = self.shards.get(each.shard, 0) + 1
        kept = self.kept.setdefault(each.named, [])
        if len(kept) < self.named:
            kept.append(each)
