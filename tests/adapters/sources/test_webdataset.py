"""WebDataset: members that share a name are a sample; a damaged tar is never read as a short one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from tasks.adapters.sources import tar_reader
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tests.builders.source_rows import aside, good, make_job, prepared, raw, spans_of
from tests.builders.tars import pack
from tests.servers.s3 import S3Bucket


def samples(count: int) -> list[tuple[str, bytes]]:
    return [
        member
        for i in range(count)
        for member in (
            (f"set/{i:05d}.jpg", b"picture %d" % i),
            (f"set/{i:05d}.txt", f"caption {i} é".encode()),
            (f"set/{i:05d}.json", json.dumps({"n": i, "tags": ["a"], "url": f"u{i}"}).encode()),
        )
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 64, 1_025])
def test_every_sample_is_a_row(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.tar").write_bytes(pack(samples(count)))
    rows = good(make_job("webdataset", tmp_path, metadata=["n", "txt", "tags"]))
    assert [(row["id"], row["image"], row["n"], row["txt"], row["tags"]) for row in rows] == [
        (f"set/{i:05d}", b"picture %d" % i, i, f"caption {i} é", ["a"]) for i in range(count)
    ]


def test_captions_are_embedded_where_the_job_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack(samples(3)))
    rows = good(make_job("webdataset", tmp_path, embed="text", metadata=["url"]))
    assert [(row["text"], row["url"]) for row in rows] == [(f"caption {i} é", f"u{i}") for i in range(3)]


def test_types_come_from_the_json_of_the_first_samples(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack(samples(3)))
    types = open_source(make_job("webdataset", tmp_path).source, rows=1).inspect()
    assert types == {"txt": "varchar", "n": "int64", "tags": "varchar[]", "url": "varchar"}
    with pytest.raises(BadInput, match=r"column 'nn' is not in .*: it has txt, n, tags, url \(did you mean 'n'\?\); if it occurs later"):
        open_source(make_job("webdataset", tmp_path, metadata=["nn"]).source, rows=1).inspect(["nn"])


def test_packed_tars_and_s3_are_read_alike(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    data = pack(samples(20))
    (tmp_path / "a.tar").write_bytes(data)
    s3_bucket.put("t/a.tar", data)
    s3_bucket.put("t/b.tar.gz", gzip.compress(data))
    here = raw(make_job("webdataset", tmp_path))
    assert raw(make_job("webdataset", f"{s3_bucket.url}/t/*.tar")) == here
    assert raw(make_job("webdataset", f"{s3_bucket.url}/t/b.tar.gz")) == here


def test_a_sample_without_what_is_embedded_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack([("a.jpg", b"x"), ("b.txt", b"only words"), ("c.txt", b"\xff"), ("c.jpg", b"x"), ("d.jpg", b"")]))
    assert aside(make_job("webdataset", tmp_path)) == [(1, "b", "no image"), (3, "d", "no image")]
    assert aside(make_job("webdataset", tmp_path, embed="text")) == [(0, "a", "empty text"), (2, "c", "not UTF-8"), (3, "d", "empty text")]


def test_a_sample_whose_json_is_broken_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack([*samples(1), ("b.jpg", b"x"), ("b.json", b"{")]))
    [(row, key, reason)] = aside(make_job("webdataset", tmp_path, metadata=["n"]))
    assert (row, key) == (1, "b")
    assert reason.startswith("metadata: the .json of the sample is not JSON")


def test_metadata_with_a_mark_or_nan_is_read_and_what_cannot_be_costs_its_sample_alone(tmp_path: Path) -> None:
    jsons = [
        b'\xef\xbb\xbf{"n": 1}',
        b'{"n": NaN}',
        b'{"n": 123456789012345678901, "t": "\\ud800"}',
        b'{"t": ' + b"[" * 700 + b"]" * 700 + b"}",
    ]
    members = [(f"{at}.{end}", data) for at, json in enumerate(jsons) for end, data in (("txt", b"\xef\xbb\xbfa caption"), ("json", json))]
    (tmp_path / "a.tar").write_bytes(pack(members))
    job = make_job("webdataset", tmp_path, embed="text", metadata=["n"], types={"n": "double"})
    assert [(row["text"], row["n"]) for row in good(job)] == [("a caption", 1.0), ("a caption", None)]
    assert [row for row, _, _ in aside(job)] == [2, 3]


def test_a_member_too_large_to_hold_is_set_aside_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_reader, "LARGEST_MEMBER", 100)
    (tmp_path / "a.tar").write_bytes(pack([("a.jpg", b"x" * 101), ("b.jpg", b"x" * 100)]))
    [(row, key, reason)] = aside(make_job("webdataset", tmp_path))
    assert (row, key, reason.split(":")[0]) == (0, "a", "too large")


@pytest.mark.parametrize("name", ["/etc/passwd.jpg", "../up.jpg", "a/../../up.jpg"])
def test_a_member_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.tar").write_bytes(pack([("a.jpg", b"x"), (name, b"x")]))
    with pytest.raises(BadInput, match=r"a\.tar has a member '.*', which points outside the tar"):
        raw(make_job("webdataset", tmp_path))


def test_links_are_no_members(tmp_path: Path) -> None:
    """Whatever they point to."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)):
            link = tarfile.TarInfo(f"{number}.jpg")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
        info = tarfile.TarInfo("real.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    assert [(row["__key__"], row["__image__"]) for row in raw(make_job("webdataset", tmp_path))] == [("real", b"x")]


def test_tars_that_cat_has_joined_are_read_to_the_end(tmp_path: Path) -> None:
    """Empty blocks end the first; the first may also hold nothing at all."""
    both = [*samples(2), *[(name.replace("set/", "more/"), data) for name, data in samples(3)]]
    joined = pack([]) + pack(both[:6]) + pack([]) + pack(both[6:])
    (tmp_path / "a.tar").write_bytes(joined)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(joined[: len(joined) // 2]) + gzip.compress(joined[len(joined) // 2 :]))
    for name in ("a.tar", "b.tar.gz"):
        keys = [row["id"] for row in good(make_job("webdataset", tmp_path / name))]
        assert keys == ["set/00000", "set/00001", "more/00000", "more/00001", "more/00002"]
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(joined[: -len(pack(both[6:])) + 512 * 5]))
    with pytest.raises(BadInput, match=r"c\.tar\.gz is cut off"):
        raw(make_job("webdataset", tmp_path / "c.tar.gz"))


@pytest.mark.parametrize("keep", [700, 512 * 3, 512 * 40])
def test_a_tar_that_is_cut_off_is_found_at_planning(tmp_path: Path, keep: int) -> None:
    (tmp_path / "a.tar").write_bytes(pack(samples(50))[:keep])
    with pytest.raises(BadInput, match=r"a\.tar is cut off"):
        spans_of(make_job("webdataset", tmp_path))


def test_a_damaged_header_is_told_with_the_member_before_it(tmp_path: Path) -> None:
    data = bytearray(pack(samples(50)))
    data[512 * 20 : 512 * 20 + 300] = b"\xaa" * 300
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.tar is cut off or damaged after member 'set/00003\.jpg'"):
        raw(make_job("webdataset", tmp_path))


def test_a_packed_tar_that_is_cut_off_is_told_while_it_is_read(tmp_path: Path) -> None:
    data = pack([(f"{i}.jpg", bytes(range(256)) * 8) for i in range(100)])
    for cut in (data[: len(data) // 2], data[: 512 * 5 * 9]):
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(cut))
        with pytest.raises(BadInput, match=r"a\.tar\.gz is cut off or damaged after member"):
            raw(make_job("webdataset", tmp_path))


def test_a_file_that_is_no_tar_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"hello" * 300)
    with pytest.raises(BadInput, match=r"a\.tar is cut off"):
        spans_of(make_job("webdataset", tmp_path))


def test_an_empty_tar_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(pack([]))
    with pytest.raises(BadInput, match="has no rows"):
        spans_of(make_job("webdataset", tmp_path))


def test_members_that_are_not_read_are_counted_by_reason(tmp_path: Path) -> None:
    members = [*samples(2), ("set/00000.cls", b"1"), ("set/00001.cls", b"2"), ("._set/._00000.jpg", b"x"), ("__MACOSX/set/a.jpg", b"x")]
    members += [("set/00001.png", b"another picture"), ("set/notes", b"n")]
    data = io.BytesIO(pack(members))
    with tarfile.open(fileobj=data, mode="a") as tar:
        link = tarfile.TarInfo("set/00002.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "set/00000.jpg"
        tar.addfile(link)
    (tmp_path / "a.tar").write_bytes(data.getvalue())
    job = make_job("webdataset", tmp_path, metadata=["n"])
    found = {
        finding.what.removesuffix(", which are not read"): (finding.count, finding.example) for c in prepared(job) for finding in c.found
    }
    assert found == {
        "members of tar files with the suffix .txt": (2, "set/00000.txt in a.tar"),
        "members of tar files with the suffix .cls": (2, "set/00000.cls in a.tar"),
        "hidden members of tar files (below __MACOSX, or with a name that begins with '.')": (2, "._set/._00000.jpg in a.tar"),
        "members of tar files beside another one of the same sample and kind": (1, "set/00001.png in a.tar"),
        "members of tar files without a suffix": (1, "set/notes in a.tar"),
        "links in tar files": (1, "set/00002.jpg in a.tar"),
    }
    assert len(good(job)) == 2
