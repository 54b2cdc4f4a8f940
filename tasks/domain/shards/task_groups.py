"""Groups of shards, one for each task: what a task costs, here and on the Prefect server, does not depend on its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.domain.shards.shard import Shard

MOST_IN_GROUP = 200
LEAST_GROUPS, MOST_GROUPS = 16, 250
SHORT_ROW = 200  # bytes, where nothing tells: rather too many rows than too large a group


def rows_of(shard: Shard, *, aim: int) -> int:
    """A shard's rows; if the file does not state it, an upper estimate: as many as a shard aims at, or fewer in few bytes."""
    span = shard.span
    return min(aim, max(1, span.size // SHORT_ROW)) if span.rows is None else span.rows


def grouped(shards: Iterable[Shard], *, aim: int, rows: int) -> Iterator[list[Shard]]:
    """Shards in order, in groups.

    Small ones together, as far as there are still groups to load while others are encoded; and of many so many together
    that there are no more than `MOST_GROUPS`, as long as none has more than `MOST_IN_GROUP`.

    Args:
        shards: those that there is something to do for; a stream stays one.
        aim: rows that a shard aims at.
        rows: the sum of `rows_of` all of them.
    """
    most = max(1, min(aim, rows // LEAST_GROUPS), -(-rows // MOST_GROUPS))
    group, held = list[Shard](), 0
    for shard in shards:
        group.append(shard)
        held += rows_of(shard, aim=aim)
        if held >= most or len(group) >= MOST_IN_GROUP:
            yield group
            group, held = [], 0
    if group:
        yield group
