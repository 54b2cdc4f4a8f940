"""Image folders: a picture is a row, and one picture more changes one shard."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.adapters.sources.images import group_files
from tasks.adapters.sources.registry import open_source, sample_texts
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.shards.shard import FileVersion
from tests.builders.source_rows import good, make_job, shard_of, spans_of
from tests.servers.s3 import S3Bucket


def listing(count: int) -> list[FileVersion]:
    return [FileVersion(path=f"/p/{i:06d}.jpg", name=f"{i:06d}.jpg", size=1, version="1") for i in range(0, 2 * count, 2)]


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 1_001])
@pytest.mark.parametrize("rows", [1, 2, 10, 100])
def test_groups_hold_every_file_once_in_order_and_are_of_fair_size(count: int, rows: int) -> None:
    files = listing(count)
    groups = list(group_files(files, rows))
    assert [file for group in groups for file in group] == files
    assert all(max(1, rows // 2) <= len(group) <= 2 * rows for group in groups[:-1])


def test_few_pictures_are_one_shard() -> None:
    assert len(list(group_files(listing(40), 100))) == 1


def test_one_picture_more_changes_one_shard_and_rarely_its_neighbour() -> None:
    files = listing(5_000)
    before = {tuple(f.name for f in group) for group in group_files(files, 200)}
    changed = []
    for place in range(1, 10_000, 199):
        more = sorted([*files, FileVersion(path="/p/new.jpg", name=f"{place | 1:06d}.jpg", size=1, version="1")], key=lambda f: f.name)
        changed.append(len(before - {tuple(f.name for f in group) for group in group_files(more, 200)}))
    assert sorted(changed)[len(changed) // 2] == 1
    assert sum(changed) / len(changed) < 1.5
    assert len(before) > 15


def test_pictures_are_found_to_the_bottom_and_nothing_else_is(tmp_path: Path) -> None:
    names = ["b.PNG", "a/1.jpg", "a/b/2.webp", "c.gif", "d.tiff", "e.bmp", "f.jpeg"]
    for name in [*names, "notes.txt", ".thumbs/x.jpg", "a/._1.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    rows = good(make_job("images", tmp_path))
    assert [(row["id"], row["image_uri"]) for row in rows] == [(name, str(tmp_path / name)) for name in sorted(names)]
    assert all(row["image"] is None for row in rows)


def test_s3_pictures_have_the_same_keys(s3_bucket: S3Bucket) -> None:
    for name in ("pics/a/1.jpg", "pics/2.png"):
        s3_bucket.put(name, b"x")
    rows = good(make_job("images", f"{s3_bucket.url}/pics"))
    assert [(row["id"], row["image_uri"]) for row in rows] == [(n, f"{s3_bucket.url}/pics/{n}") for n in ("2.png", "a/1.jpg")]


def test_a_picture_changed_after_planning_is_noticed(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(b"x")
    job = make_job("images", tmp_path)
    [span] = spans_of(job)
    (tmp_path / "3.jpg").write_bytes(b"yy")
    with pytest.raises(Permanent, match=r"3\.jpg was changed"):
        list(open_source(job.source, rows=10).read(shard_of(span)))


def test_a_picture_changed_in_s3_among_many_is_noticed(s3_bucket: S3Bucket) -> None:
    for i in range(9):
        s3_bucket.put(f"pics/{i}.jpg", b"x")
    job = make_job("images", f"{s3_bucket.url}/pics")
    [span] = spans_of(job)
    s3_bucket.put("pics/new.jpg", b"not in the shard")
    source = open_source(job.source, rows=10)
    assert sum(batch.num_rows for batch in source.read(shard_of(span))) == 9
    s3_bucket.put("pics/0.jpg", b"y")
    with pytest.raises(Permanent, match=r"0\.jpg was changed"):
        list(source.read(shard_of(span)))


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"nothing to read in .*wanted: \.jpg"):
        open_source(make_job("images", tmp_path).source, rows=1).inspect()


def test_a_sample_is_paths(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_bytes(b"x")
    assert sample_texts(open_source(make_job("images", tmp_path).source, rows=10), 2) == [str(tmp_path / f"{i}.jpg") for i in range(2)]


def test_hashes_of_names_cut_and_not_their_places() -> None:
    files = listing(2_000)
    begins = {group[0].name for group in group_files(files, 100)}
    later = {group[0].name for group in group_files(files[500:], 100)}
    common = {name for name in begins if name >= files[900].name}
    assert common <= later
    assert all(a < b for a, b in pairwise(sorted(begins)))
