"""A file is what stands at a place, and rows leave by a rule."""

from __future__ import annotations

import pytest

from tasks.domain.digest import digest
from tasks.domain.shards.removal import Roots, rule_for
from tasks.domain.shards.seal import Loaded

HERE = Roots(now="s3://lake/2026-11-21")


def entry(place: str | None, *, files: int = 1) -> Loaded:
    return Loaded(shard="s", group="part-0.parquet", place=place, files=files, rows=5, seal="", run="r", seconds=0, loaded_at="")


def standing(*places: str) -> set[str]:
    return {digest(place) for place in places}


NOW = standing("s3://lake/2026-11-21/part-0.parquet")


@pytest.mark.parametrize("mirror", [False, True])
def test_a_newer_version_replaces_the_file_at_the_same_place(mirror: bool) -> None:
    assert rule_for(entry("s3://lake/2026-11-21/part-0.parquet"), HERE, standing=NOW, mirror=mirror) == "replaced"


def test_the_same_name_below_another_root_is_another_file() -> None:
    assert rule_for(entry("s3://lake/2026-11-20/part-0.parquet"), HERE, standing=NOW, mirror=False) is None


def test_a_mirror_removes_rows_of_files_that_are_gone() -> None:
    gone = entry("s3://lake/2026-11-21/part-1.parquet")
    assert rule_for(gone, HERE, standing=NOW, mirror=True) == "gone"
    assert rule_for(gone, HERE, standing=NOW, mirror=False) is None


def test_files_that_were_moved_are_the_same_files() -> None:
    moved = Roots(now="s3://lake/2026-11-21", moved_from="/mnt/lake/")
    assert rule_for(entry("/mnt/lake/part-0.parquet"), moved, standing=NOW, mirror=False) == "replaced"
    assert rule_for(entry("/mnt/lakeside/part-0.parquet"), moved, standing=NOW, mirror=False) is None


def test_an_entry_without_a_place_is_below_the_root_of_today() -> None:
    assert rule_for(entry(None), HERE, standing=NOW, mirror=False) == "replaced"


def test_no_single_file_replaces_a_shard_of_many() -> None:
    pictures = entry("s3://lake/2026-11-21/part-0.parquet", files=10)
    assert rule_for(pictures, HERE, standing=NOW, mirror=False) is None
    assert rule_for(pictures, HERE, standing=NOW, mirror=True) == "gone"


@pytest.mark.parametrize(
    ("roots", "known", "strangers"),
    [
        (Roots(now="/lake"), {"/lake"}, []),
        (Roots(now="/lake"), {"/lake/2026"}, []),  # a folder above covers what is below it
        (Roots(now="/lake/2026"), {"/lake"}, ["/lake"]),
        (Roots(now="/new"), {"/old"}, ["/old"]),
        (Roots(now="/new", moved_from="/old"), {"/old", "/new"}, []),
        (Roots(now="/new", moved_from="/old"), {"/older"}, ["/older"]),
        (Roots(now="/"), {"/old"}, []),
    ],
)
def test_a_source_covers_what_is_below_its_root(roots: Roots, known: set[str], strangers: list[str]) -> None:
    assert roots.strangers(known) == strangers
