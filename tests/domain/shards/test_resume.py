"""Resume is a pure question over what is planned, sealed and loaded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.shards.resume import missing, uncovered, without_overlap
from tasks.domain.shards.shard import FileVersion, RowGroups, Shard, Span, name_shard

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


def shard(name: str, version: str = "1") -> Shard:
    span = Span(files=(FileVersion(path=f"/{name}", name=name, size=1, version=version),), extent=RowGroups(start=0, stop=1), rows=5)
    return name_shard(span, rows_as={}, fingerprint="f")


def test_the_same_input_is_the_same_shard_wherever_it_is_mounted() -> None:
    here, there = shard("a"), shard("a")
    moved = there.span.model_copy(update={"files": (there.span.files[0].model_copy(update={"path": "/elsewhere/a"}),)})
    assert name_shard(moved, rows_as={}, fingerprint="f").id == here.id


def test_a_changed_file_columns_or_encoder_is_another_shard() -> None:
    span = shard("a").span
    ids = {name_shard(span, rows_as=rows, fingerprint=f).id for rows, f in [({}, "f"), ({"text": ["b"]}, "f"), ({}, "g")]}
    assert len(ids | {shard("a", "2").id, shard("b").id}) == 5


def test_missing_keeps_plan_order() -> None:
    plan = [shard(name) for name in "abcd"]
    assert [s.group for s in missing(plan, {plan[1].id})] == ["a", "c", "d"]


@given(RANGES)
def test_kept_ranges_do_not_overlap_and_come_from_what_was_given(ranges: list[tuple[int, int]]) -> None:
    kept = without_overlap(ranges)
    assert set(kept) <= set(ranges)
    rows = [row for begin, end in kept for row in range(begin, end)]
    assert len(rows) == len(set(rows))


@given(RANGES, st.integers(0, 60), st.integers(0, 60))
def test_gaps_and_cover_together_are_the_whole(ranges: list[tuple[int, int]], first: int, stop: int) -> None:
    covered = without_overlap(ranges)
    gaps = list(uncovered(first, stop, covered))
    rows = [row for begin, end in [*gaps, *covered] for row in range(begin, end)]
    assert len(rows) == len(set(rows))
    assert set(range(first, stop)) <= set(rows)
    assert all(first <= begin < end <= stop for begin, end in gaps)
