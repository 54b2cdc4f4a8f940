"""Groups of shards, one for each task: the cost of a task, here and on the Prefect server, does not depend on its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tasks.domain.shards.shard import Shard

MOST_IN_GROUP = 200
LEAST_GROUPS, MOST_GROUPS = 16, 250
SHORT_ROW = 200  # bytes assumed for a row if unknown; short, because too high a number of rows is safer than too large a group


def rows_of(shard: Shard, *, aim: int) -> int:
    """Return a shard's rows; if the file does not state them, an upper estimate: `aim`, or fewer if the shard has few bytes."""
    span = shard.span
    return min(aim, max(1, span.size // SHORT_ROW)) if span.rows is None else span.rows


def grouped(shards: Iterable[Shard], *, aim: int, rows: int) -> Iterator[list[Shard]]:
    """Yield the shards in order, in groups.

    Small shards share a group, as long as enough groups remain to load some while others are encoded. Many shards share
    groups so that there are at most `MOST_GROUPS`, as long as no group has more than `MOST_IN_GROUP` shards.

    Args:
        shards: the shards to process; streamed.
        aim: target number of rows of a shard.
        rows: the sum of `rows_of` over all shards.
    """
    most = max(1, min(aim, rows // LEAST_GROUPS), -(-rows // MOST_GROUPS))
    group, group_rows = list[Shard](), 0
    for shard in shards:
        group.append(shard)
        group_rows += rows_of(shard, aim=aim)
        if group_rows >= most or len(group) >= MOST_IN_GROUP:
            yield group
            group, group_rows = [], 0
    if group:
        yield group
