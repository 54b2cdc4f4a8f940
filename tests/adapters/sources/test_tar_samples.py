"""Members become samples as webdataset itself would have them, also where they do not stand side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.adapters.sources import tar_samples
from tasks.domain.errors import BadInput
from tests.builders.source_rows import aside, good, make_job
from tests.builders.tars import pack


def apart(count: int) -> list[tuple[str, bytes]]:
    """A folder in the order of its directory: all pictures, then all captions."""
    return [(f"{i}.jpg", b"picture %d" % i) for i in range(count)] + [(f"{i}.txt", b"caption %d" % i) for i in range(count)]


def rows_of(path: Path, *members: tuple[str, bytes], **columns: object) -> list[tuple[str, bytes | None, str | None]]:
    path.write_bytes(pack(list(members)))
    return [(row["id"], row.get("image"), row.get("txt")) for row in good(make_job("webdataset", path, **columns))]


def test_pictures_and_captions_apart_in_the_tar_are_joined(tmp_path: Path) -> None:
    expected = [(f"{i}", b"picture %d" % i, f"caption {i}") for i in range(300)]
    assert rows_of(tmp_path / "a.tar", *apart(300), metadata=["txt"]) == expected
    assert rows_of(tmp_path / "a.tar", *reversed(apart(300)), metadata=["txt"]) == expected[::-1]
    assert rows_of(tmp_path / "a.tar", *apart(300)) == [(key, image, None) for key, image, _ in expected]
    texts = good(make_job("webdataset", tmp_path / "a.tar", embed="text"))
    assert [(row["id"], row["text"]) for row in texts] == [(key, text) for key, _, text in expected]


def test_what_stands_too_far_apart_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_samples, "WINDOW_BYTES", 60)
    (tmp_path / "a.tar").write_bytes(pack(apart(20)))
    job = make_job("webdataset", tmp_path / "a.tar", metadata=["txt"])
    rows, refused = good(job), aside(job)
    assert [row["id"] for row in rows] == [str(i) for i in range(20)]
    lone = [row["id"] for row in rows if row["txt"] is None]
    assert lone == [key for _, key, _ in refused] != []
    assert {reason.partition(":")[0] for _, _, reason in refused} == {"apart in the tar"}


def test_a_whole_sample_waits_for_nothing_and_order_is_that_of_first_members(tmp_path: Path) -> None:
    """What is read ahead of a row is one sample where members stand side by side."""
    taken: list[str] = []

    def members():
        for name in ("a.jpg", "a.txt", "b.jpg", "b.txt", "c.jpg", "c.txt"):
            taken.append(name)
            yield tar_samples.Member(name, 1, b"x")

    samples = tar_samples.join_samples(members(), frozenset(("image", "caption")))
    assert (next(samples).key, taken[-1]) == ("a", "b.jpg")
    assert (next(samples).key, taken[-1]) == ("b", "c.jpg")


def test_what_macos_puts_beside_files_is_no_sample(tmp_path: Path) -> None:
    extra = [("._a.jpg", b"\0\5\x16\7"), ("__MACOSX/._a.jpg", b"x"), ("sub/.DS_Store", b"x"), ("./._a.txt", b"x")]
    assert rows_of(tmp_path / "a.tar", *extra, ("./a.jpg", b"x"), ("a.txt", b"y"), metadata=["txt"]) == [("a", b"x", "y")]


def test_names_with_several_dots_are_split_at_the_first(tmp_path: Path) -> None:
    members = [("v1.2/a.v2.jpg", b"a"), ("v1.2/a.en.txt", b"words"), ("b.mask.png", b"no"), ("b.jpg", b"b"), ("b.json", b"{}")]
    assert rows_of(tmp_path / "a.tar", *members, metadata=["txt"]) == [("v1.2/a", b"a", "words"), ("b", b"b", None)]
    job = make_job("webdataset", tmp_path / "a.tar")
    (tmp_path / "a.tar").write_bytes(pack([("c.left.jpg", b"l"), ("c.right.jpg", b"r")]))
    assert aside(job) == [(0, "c", "more than one image: left.jpg, right.jpg: name the one that is meant c.jpg")]


def test_a_name_that_comes_twice_is_two_rows(tmp_path: Path) -> None:
    """As `tar -r` leaves it; the job's own rule for keys that come twice says which stays."""
    members = [("a.jpg", b"old"), ("b.jpg", b"b"), ("a.jpg", b"new")]
    with pytest.raises(BadInput, match="key 'a' occurs twice"):
        rows_of(tmp_path / "a.tar", *members)
    assert rows_of(tmp_path / "a.tar", *members, on_duplicate="last") == [("b", b"b", None), ("a", b"new", None)]


def test_captions_are_taken_from_the_json(tmp_path: Path) -> None:
    facts = [{"caption": "a caption é"}, {"caption": 7}, {"width": 4}, {"caption": " "}]
    members = [(f"{i}.{end}", data) for i, fact in enumerate(facts) for end, data in (("jpg", b"x"), ("json", json.dumps(fact).encode()))]
    (tmp_path / "a.tar").write_bytes(pack(members))
    job = make_job("webdataset", tmp_path / "a.tar", embed="text", caption_key="caption", metadata=["width"])
    assert [(row["id"], row["text"]) for row in good(job)] == [("0", "a caption é")]
    assert [(key, reason.partition(":")[0]) for _, key, reason in aside(job)] == [
        ("1", "caption is no text"),
        ("2", "empty text"),
        ("3", "empty text"),
    ]
    with pytest.raises(BadInput, match=r"have no \.txt to embed, and their \.json has 'caption': set source\.caption_key: caption"):
        good(make_job("webdataset", tmp_path / "a.tar", embed="text"))
    with pytest.raises(BadInput, match=r"column 'capton' is not in .*did you mean 'caption'"):
        good(make_job("webdataset", tmp_path / "a.tar", embed="text", caption_key="capton"))
    with pytest.raises(ValueError, match="caption_key is for embed: text"):
        make_job("webdataset", tmp_path, caption_key="caption")
