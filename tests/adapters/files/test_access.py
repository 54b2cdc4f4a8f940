"""Listing and opening: the same corpus has the same names in a folder, in S3 and behind fsspec."""

from __future__ import annotations

import gzip
import lzma
import os
from pathlib import Path

import boto3
import fsspec
import pytest

from tasks.adapters.files.access import check_unchanged, guard_unchanged, list_files, open_file, open_plain
from tasks.adapters.files.globs import make_pattern, split_pattern
from tasks.domain.errors import BadInput, Permanent, Transient
from tests.servers.s3 import S3Bucket

TREE = [
    "docs/a-b/x.parquet",
    "docs/a.parquet",
    "docs/a/deep/er/z.PARQUET",
    "docs/a/y.parquet",
    "docs/notes.txt",
    "docs/.hidden/h.parquet",
    "docs/_hidden_log/l.parquet",
    "docs/a/_SUCCESS",
    "docs/é/ü.parquet",
]
ALL = ["a-b/x.parquet", "a.parquet", "a/deep/er/z.PARQUET", "a/y.parquet", "é/ü.parquet"]


def fill(folder: Path) -> Path:
    for name in TREE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder / "docs"


@pytest.fixture(params=["folder", "s3", "memory"])
def docs(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The tree above, at three kinds of place."""
    if request.param == "folder":
        return str(fill(tmp_path))
    if request.param == "s3":
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        for name in TREE:
            bucket.put(name, name.encode())
        return f"{bucket.url}/docs"
    root = f"memory:/{tmp_path}"
    for name in TREE:
        with fsspec.open(f"{root}/{name}", "wb") as file:
            file.write(name.encode())
    return f"{root}/docs"


def names(uri: str, suffixes: tuple[str, ...] = (".parquet",)) -> list[str]:
    return [file.name for file in list_files(uri, suffixes)]


def test_a_folder_is_searched_to_the_bottom_in_the_order_of_s3_keys(docs: str) -> None:
    assert names(docs) == sorted(ALL)
    assert names(f"{docs}/") == sorted(ALL)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet"]),
        ("**/*.parquet", ["a-b/x.parquet", "a.parquet", "a/y.parquet", "é/ü.parquet"]),
        ("a*/*.parquet", ["a-b/x.parquet", "a/y.parquet"]),
        ("*", ALL),
        ("**", ALL),
        ("a*", ["a-b/x.parquet", "a.parquet", "a/deep/er/z.PARQUET", "a/y.parquet"]),
        ("[!a]/*", ["é/ü.parquet"]),
        ("a/**/z.PAR*", ["deep/er/z.PARQUET"]),
        ("?.parquet", ["a.parquet"]),
        ("notes.*", ["notes.txt"]),
        ("_hidden*/*.parquet", ["_hidden_log/l.parquet"]),
    ],
)
def test_globs_mean_the_same_everywhere(docs: str, pattern: str, expected: list[str]) -> None:
    root = "a/" if pattern.startswith("a/") else ""
    assert names(f"{docs}/{pattern}") == expected, root


def test_one_file_is_taken_whatever_it_is_called(docs: str) -> None:
    [file] = list_files(f"{docs}/notes.txt", (".parquet",))
    assert file.name == "notes.txt"
    assert open_file(file.path).read() == b"docs/notes.txt"
    assert file.size == len("docs/notes.txt")


def test_a_changed_file_is_noticed(docs: str) -> None:
    files = tuple(list_files(docs, (".parquet",)))
    check_unchanged(files)
    if docs.startswith("s3"):
        bucket, _, key = files[1].path.removeprefix("s3://").partition("/")
        boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=b"other bytes")
    else:
        with fsspec.open(files[1].path, "wb") as file:
            file.write(b"other bytes")
    with pytest.raises(Permanent, match=r"a\.parquet was changed while it was being read: run again"):
        check_unchanged(files)


def test_a_removed_file_is_noticed(tmp_path: Path) -> None:
    files = tuple(list_files(str(fill(tmp_path)), (".parquet",)))
    Path(files[0].path).unlink()
    with pytest.raises(Permanent, match="was removed"):
        check_unchanged(files)


def test_a_removed_object_among_many_is_noticed(s3_bucket: S3Bucket) -> None:
    for i in range(8):
        s3_bucket.put(f"pics/{i}.jpg", b"x")
    files = tuple(list_files(f"{s3_bucket.url}/pics", (".jpg",)))
    check_unchanged(files)
    s3_bucket.server.client().delete_object(Bucket=s3_bucket.name, Key="pics/3.jpg")
    with pytest.raises(Permanent, match=r"pics/3\.jpg was removed"):
        check_unchanged(files)


def test_change_while_values_flow_is_told_as_change_not_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"one")
    files = tuple(list_files(str(path), (".parquet",)))

    def values():
        yield 1
        path.write_bytes(b"three")
        raise BadInput("damaged")

    with pytest.raises(Permanent, match="changed while it was being read") as caught:
        list(guard_unchanged(files, values()))
    assert not isinstance(caught.value, BadInput)


def test_mounting_elsewhere_keeps_names(tmp_path: Path) -> None:
    for mount in ("one", "two"):
        fill(tmp_path / mount)
    assert names(str(tmp_path / "one" / "docs" / "a*")) == names(str(tmp_path / "two" / "docs" / "a*"))


def test_a_link_back_up_does_not_loop_where_the_source_is_a_link_itself(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "sub").mkdir(parents=True)
    for name in ("x.csv", "sub/y.csv"):
        (disk / name).write_text("a\n")
    (disk / "sub" / "up").symlink_to("..")
    (tmp_path / "link").symlink_to("disk")
    assert [file.name for file in list_files(str(tmp_path / "link"), (".csv",))] == ["sub/y.csv", "x.csv"]


def test_a_link_back_up_does_not_loop(tmp_path: Path) -> None:
    docs = fill(tmp_path)
    (docs / "a" / "up").symlink_to(docs)
    (docs / "b").symlink_to(docs / "a")
    assert "b/y.parquet" in names(str(docs))


def test_a_name_with_brackets_is_meant_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "part[1].parquet").write_bytes(b"x")
    assert names(str(tmp_path / "part[1].parquet")) == ["part[1].parquet"]


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    docs = fill(tmp_path)
    with pytest.raises(BadInput, match=rf"no such file or folder: '{tmp_path}/dosc' \(did you mean '{docs}'\?\)"):
        names(str(tmp_path / "dosc"))


def test_an_empty_glob_and_an_empty_folder_are_told(docs: str) -> None:
    with pytest.raises(BadInput, match=r"nothing to read in '.*/\*\.csv'"):
        names(f"{docs}/*.csv", (".csv",))
    with pytest.raises(BadInput, match=r"wanted: \.tar"):
        names(docs, (".tar",))


def test_a_missing_place_is_told(docs: str) -> None:
    with pytest.raises(BadInput, match=r"no such file or folder|nothing to read"):
        names(f"{docs}x")


def test_a_missing_bucket_is_told(s3_bucket: S3Bucket) -> None:
    with pytest.raises(BadInput, match=r"there is no S3 bucket 'nope-nope' at http://127"):
        names("s3://nope-nope/docs")
    with pytest.raises(BadInput, match="names no bucket"):
        names("s3://")


def test_missing_credentials_are_told(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for act in (lambda: names(s3_bucket.url), lambda: open_file(f"{s3_bucket.url}/x")):
        with pytest.raises(BadInput, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
            act()


def test_a_profile_that_is_not_there_is_told(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(BadInput, match="AWS_PROFILE names a profile that does not exist"):
        names(s3_bucket.url)


def test_a_server_that_is_down_is_told_at_first_and_passing_later(s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tuple(list_files(s3_bucket.put("docs/a.csv", b"x"), (".csv",)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:secret@127.0.0.1:9")
    with pytest.raises(BadInput, match="no server answers") as told:
        names(f"{s3_bucket.url}/docs/")
    assert "secret" not in str(told.value)
    with pytest.raises(Transient, match="does not answer") as told:
        check_unchanged(files)
    assert "secret" not in str(told.value)


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list everything")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    with pytest.raises(BadInput, match="may not be read"):
        names(str(tmp_path))


def test_a_scheme_without_its_package_is_told() -> None:
    with pytest.raises(BadInput, match=r"needs a package|cannot be opened"):
        names("nosuchscheme://bucket/x")


def test_packed_files_are_unpacked_and_a_cut_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"text" * 1000))
    assert open_plain(str(path)).read() == b"text" * 1000
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OSError, match="Truncated"):
        open_plain(str(path)).read()


def test_xz_streams_one_behind_another_are_read_and_what_is_none_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.xz"
    one, two = lzma.compress(b"one\n" * 100_000), lzma.compress(b"two\n")
    path.write_bytes(one + b"\0" * 4 + two + b"\0" * 8)
    assert _all_of(path) == b"one\n" * 100_000 + b"two\n"
    for damaged, error in (
        (one + b"garbage, not a stream", "decompress failed"),
        (one + two[:-9], "ended before"),
        (one[:-20], "ended before"),
    ):
        path.write_bytes(damaged)
        with pytest.raises((OSError, EOFError), match=error):
            _all_of(path)


def _all_of(path: Path) -> bytes:
    opened = open_plain(str(path))
    return b"".join(iter(lambda: opened.read(4_096), b""))


def test_a_pattern_keeps_its_fixed_folder() -> None:
    assert split_pattern("/data/docs/2024-*/part-?.parquet") == ("/data/docs", ["2024-*", "part-?.parquet"])
    assert split_pattern("/data/docs") == ("/data/docs", [])


def test_a_bracket_that_is_not_closed_stands_for_itself() -> None:
    assert make_pattern(["a[b*"], ()).takes_file("a[bc")
    assert not make_pattern(["a[bc]"], ()).takes_file("a[bc]")
