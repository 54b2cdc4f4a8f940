"""Shards are handed to tasks in groups: few tasks for many shards, and enough of them to load while others are encoded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.shards.shard import ByteRange, FileVersion, Shard, Span, Whole, name_shard
from tasks.domain.shards.task_groups import LEAST_GROUPS, MOST_GROUPS, MOST_IN_GROUP, grouped, rows_of


def shard(number: int, rows: int | None, *, size: int = 1) -> Shard:
    file = FileVersion(path=f"/{number}", name=str(number), size=size, version="1")
    return name_shard(Span(files=(file,), extent=Whole(), rows=rows), rows_as={}, fingerprint="f")


def groups(shards: list[Shard], aim: int) -> list[list[Shard]]:
    return list(grouped(shards, aim=aim, rows=sum(rows_of(each, aim=aim) for each in shards)))


@pytest.mark.parametrize("count", [1_000, 5_000, 20_000])
def test_many_full_shards_are_some_hundred_tasks(count: int) -> None:
    assert 125 <= len(groups([shard(n, 100) for n in range(count)], 100)) <= MOST_GROUPS


@pytest.mark.parametrize("count", [1, 16, 100, 250])
def test_a_full_shard_is_a_task_of_its_own_where_there_are_few(count: int) -> None:
    assert len(groups([shard(n, 100) for n in range(count)], 100)) == count


def test_tiny_files_go_together_and_leave_groups_to_load_while_others_are_encoded() -> None:
    assert len(groups([shard(n, 4) for n in range(300)], 50_000)) in range(LEAST_GROUPS, 2 * LEAST_GROUPS)


def test_files_that_do_not_tell_their_rows_are_weighed_by_their_bytes() -> None:
    tiny = [shard(n, None, size=1_000) for n in range(3_000)]
    assert len(groups(tiny, 50_000)) in range(LEAST_GROUPS, 2 * LEAST_GROUPS)
    assert len(groups([shard(n, None, size=50 << 20) for n in range(100)], 50_000)) == 100


def test_a_range_is_weighed_by_its_own_bytes() -> None:
    file = FileVersion(path="/a", name="a", size=1 << 40, version="1")
    part = Shard(id="x", span=Span(files=(file,), extent=ByteRange(start=1_000, stop=3_000), rows=None))
    assert rows_of(part, aim=50_000) == 10


@given(st.lists(st.one_of(st.none(), st.integers(0, 500)), max_size=400), st.integers(1, 1_000))
def test_every_shard_is_in_one_group_in_order(rows: list[int | None], aim: int) -> None:
    shards = [shard(n, count, size=100 * n) for n, count in enumerate(rows)]
    found = groups(shards, aim)
    assert [each for group in found for each in group] == shards
    assert all(1 <= len(group) <= MOST_IN_GROUP for group in found)
