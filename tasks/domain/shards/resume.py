"""Resume needs no state of its own: it is the difference between the plan and the committed shards."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from tasks.domain.shards.shard import Shard


def missing(plan: Iterable[Shard], done: Container[str]) -> Iterator[Shard]:
    """The plan's shards that are not done, in plan order; streams."""
    return (shard for shard in plan if shard.id not in done)


def uncovered(first: int, stop: int, covered: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The gaps that covered ranges leave in [first, stop); covered is sorted and does not overlap."""
    for begin, end in covered:
        if begin >= stop:
            break
        if begin > first:
            yield first, min(begin, stop)
        first = max(first, end)
    if first < stop:
        yield first, stop


def without_overlap(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted ranges of which none overlaps the one before; of two that begin together the longer stays."""
    kept: list[tuple[int, int]] = []
    for begin, end in sorted(ranges, key=lambda r: (r[0], -r[1])):
        if end > begin and (not kept or begin >= kept[-1][1]):
            kept.append((begin, end))
    return kept
