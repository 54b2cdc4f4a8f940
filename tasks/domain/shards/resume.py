"""Resume without state of its own: the difference between the plan and the committed shards."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from tasks.domain.shards.shard import Shard


def missing(plan: Iterable[Shard], done: Container[str]) -> Iterator[Shard]:
    """Yield the plan's shards that are not done, in plan order; streams."""
    return (shard for shard in plan if shard.id not in done)


def uncovered(first: int, stop: int, covered: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the gaps between the covered ranges in [first, stop); `covered` is sorted and does not overlap."""
    for begin, end in covered:
        if begin >= stop:
            break
        if begin > first:
            yield first, min(begin, stop)
        first = max(first, end)
    if first < stop:
        yield first, stop


def without_overlap(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sort ranges and drop each that overlaps the one before; of two with the same begin the longer is kept."""
    disjoint: list[tuple[int, int]] = []
    for begin, end in sorted(ranges, key=lambda r: (r[0], -r[1])):
        if end > begin and (not disjoint or begin >= disjoint[-1][1]):
            disjoint.append((begin, end))
    return disjoint
