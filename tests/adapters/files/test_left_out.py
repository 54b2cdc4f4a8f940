"""What a folder or prefix holds and a source does not read is counted by reason, wherever it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.adapters.files.access import list_files, open_file
from tasks.adapters.files.left_out import HIDDEN, NO_SUFFIX, LeftOut
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tasks.domain.shards.unread_files import format_unread
from tests.builders.source_rows import good, make_job
from tests.servers.s3 import S3Bucket

LINE = b'{"id": "%d", "text": "some text"}\n'
NAMES = ["a.jsonl", "b.txt", "c.TXT", "part-00000", "_SUCCESS", ".x/d.jsonl", ".x/e.jsonl", "sub/f.jsonl", "sub/_tmp/g.jsonl"]
EXPECTED = {HIDDEN: (3, ".x/"), "with the suffix .txt": (2, "b.txt"), NO_SUFFIX: (1, "part-00000")}


def counted(uri: str, *suffixes: str) -> dict[str, tuple[int, str]]:
    left_out = LeftOut()
    list(list_files(uri, suffixes or (".jsonl",), left_out))
    return {some.reason: (some.files, some.example) for some in left_out.files()}


def fill(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_and_a_prefix_are_counted_alike(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    fill(tmp_path)
    for name in ("", "sub/", *NAMES):  # consoles put a key for a folder
        s3_bucket.put(f"in/{name}", b"x" * (not name.endswith("/") and name != ""))
    for uri in (str(tmp_path), f"{s3_bucket.url}/in"):
        assert counted(uri) == EXPECTED
        assert counted(f"{uri}/*") == EXPECTED
        assert counted(f"{uri}/**/*.jsonl") == {HIDDEN: (2, ".x/")}
        assert counted(f"{uri}/a.jsonl") == {}
        with pytest.raises(
            BadInput, match=r"wanted: \.csv\); 8 files in the source are not read: .*2 with the suffix \.jsonl \('a\.jsonl'\)"
        ):
            counted(uri, ".csv")


def test_links_and_what_is_no_file_are_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jsonl"))).write_bytes(b"x")
    found = counted(str(tmp_path))
    kinds = ["a link to a folder above it", "a link to nothing", "a pipe, socket or device", "with a name that is not UTF-8 (rename them)"]
    assert [found[kind][0] for kind in kinds] == [1, 1, 1, 1]
    assert "up" in found[kinds[0]][1]


def test_files_without_rows_are_counted_as_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE % 1)
    (tmp_path / "b.jsonl").write_bytes(b"")
    (tmp_path / "c.jsonl").write_bytes(b"\n\n")
    (tmp_path / "d.md").write_bytes(b"read me")
    source = open_source(make_job("jsonl", tmp_path, id="id").source, rows=10)
    for _ in range(2):  # each listing counts anew
        assert len(list(source.spans())) == 1
        assert {some.reason for some in source.left_out.files()} == {"empty", "with blank lines only", "with the suffix .md"}
    words = format_unread(source.left_out.files())
    assert words.startswith("3 files in the source are not read: 1 ")
    assert "1 with the suffix .md ('d.md')" in words


def test_the_kinds_that_are_told_apart_are_bounded() -> None:
    left_out = LeftOut()
    for number in range(1_000):
        left_out.add(f"with the suffix .{number}", f"a.{number}")
    assert (len(left_out.files()), sum(some.files for some in left_out.files())) == (21, 1_000)


KEYS = ["a b", "a+b", "100%25", "100%", "über", "e\u0301", "中文/文件", "x//y", "q?x", "[b]", "hash#1", "a=b&c;d", "tail ", "'quote\""]
KEYS += ["d/../up", "./dot", "emoji\U0001f600", "~t", "back\\slash", "dir/plain", "/lead", "d/./in", "s3://x"]


def test_keys_are_read_whatever_they_are_called(s3_bucket: S3Bucket) -> None:
    for number, key in enumerate(KEYS):
        s3_bucket.put(f"in/{key}.jsonl", LINE % number)
    assert counted(f"{s3_bucket.url}/in/") == {}
    rows = good(make_job("jsonl", f"{s3_bucket.url}/in/", id="id"))
    assert sorted(int(row["id"]) for row in rows) == list(range(len(KEYS)))


def test_an_object_with_an_odd_key_is_read_at_any_place(s3_bucket: S3Bucket) -> None:
    data = os.urandom(3 << 20)
    uri = s3_bucket.put("in//odd", data)
    with open_file(uri) as file:
        file.seek(-5, 2)
        assert (file.read(9), file.tell()) == (data[-5:], len(data))
        file.seek(1 << 20)
        assert file.read() == data[1 << 20 :]
    with pytest.raises(FileNotFoundError):
        open_file(f"{s3_bucket.url}/in//gone")
