"""Lists in braces name files that are all there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.files import braces
from tasks.adapters.files.access import check_unchanged, list_files, root_of
from tasks.adapters.files.braces import expand_braces, has_braces
from tasks.domain.errors import BadInput
from tests.servers.s3 import S3Bucket

NAMES = [f"{part}/{number:05d}.tar" for part in ("test", "train") for number in range(12)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{00..10}.tar", [f"{n:02d}.tar" for n in range(11)]),
        ("{8..10}", ["10", "8", "9"]),
        ("{3..1}", ["1", "2", "3"]),
        ("{0..9..4}x", ["0x", "4x", "8x"]),
        ("{a,b}{1,2}", ["a1", "a2", "b1", "b2"]),
        ("x{a,{b,c}d,}", ["x", "xa", "xbd", "xcd"]),
        ("{a,a}{plain}", ["a{plain}"]),
    ],
)
def test_braces_are_what_a_shell_makes_of_them(text: str, names: list[str]) -> None:
    assert expand_braces(text) == names


def test_what_is_no_list_is_a_name() -> None:
    for name in ("a{b}.tar", "{}", "a}b{,c", "{a..", "plain"):
        assert not has_braces(name)


@pytest.mark.parametrize("text", ["{0..99999999}", "{0..9999}{0..9999}", "{a,b}/*.tar", "s3://{a,b}/x"])
def test_a_list_without_bounds_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(braces, "MOST_NAMES", 1_000)
    with pytest.raises(BadInput, match=r"lists more than 1,000 files|wildcards|bucket"):
        expand_braces(text)


def test_every_file_of_a_list_is_read_wherever_it_lies_and_one_that_is_missing_is_named(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
        s3_bucket.put(f"in/{name}", b"x")
    for root in (str(tmp_path), f"{s3_bucket.url}/in", tmp_path.as_uri()):
        for uri in (f"{root}/{{train,test}}/{{00000..00011}}.tar", f"{root}/{{test,train}}"):
            files = tuple(list_files(uri, (".tar",)))
            assert [file.name for file in files] == NAMES
            assert {file.root for file in files} == {root_of(uri)}
            check_unchanged(files)
        assert [file.name for file in list_files(f"{root}/test/0000{{1,3}}.tar", (".tar",))] == ["00001.tar", "00003.tar"]
        with pytest.raises(BadInput, match=r"00012\.tar'"):
            list(list_files(f"{root}/test/{{00010..00012}}.tar", (".tar",)))


def test_a_file_with_braces_in_its_name_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "{a,b}.tar").write_bytes(b"x")
    assert [file.name for file in list_files(f"{tmp_path}/{{a,b}}.tar", (".tar",))] == ["{a,b}.tar"]
