"""Folders of text files: a file is a row, and what is no text is set aside with its reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.adapters.sources import text_folder
from tasks.adapters.sources.registry import open_source, sample_texts
from tasks.adapters.sources.sampling import Effort, Sampler
from tasks.domain.errors import BadInput, Permanent
from tasks.domain.job.job import Job
from tasks.domain.job.parse import parse_job
from tasks.domain.strict import identifying
from tests.builders.source_rows import aside, good, make_job, prepared, shard_of, spans_of
from tests.servers.s3 import S3Bucket

FILES = {
    "b.MD": "# Kites\r\n\r\nThey fly.\n",
    "a/1.txt": "Ein Drache, 風箏",
    "a/b/2.rst": "Kite\n====",
    "c.markdown": "* a",
    "d.text": "\ufeffbegins",
}


def fill(folder: Path, files: dict[str, bytes]) -> Job:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return make_job("text-files", folder)


def texts(job: Job) -> dict[str, str]:
    return {row["id"]: row["text"] for row in good(job)}


def test_every_text_below_is_a_row_with_its_path_as_key_and_nothing_else_is(tmp_path: Path) -> None:
    others = {"a.jpg": b"x", "run.log": b"x", ".git/x.md": b"x", "a/_draft.md": b"x"}
    job = fill(tmp_path, others | {name: text.encode() for name, text in FILES.items()})
    assert texts(job) == FILES | {"d.text": "begins"}
    assert list(texts(job)) == sorted(FILES)
    assert aside(job) == []


def test_s3_texts_have_the_same_keys(s3_bucket: S3Bucket) -> None:
    for name, text in FILES.items():
        s3_bucket.put(f"docs/{name}", text.encode())
    assert texts(make_job("text-files", f"{s3_bucket.url}/docs")) == FILES | {"d.text": "begins"}


def test_other_suffixes_are_stated_or_named_in_a_glob_and_are_in_no_digest(tmp_path: Path) -> None:
    job = fill(tmp_path, {"a.md": b"one", "a/b.LOG": b"two", "c.org": b"three"})
    chosen = make_job("text-files", tmp_path, suffixes=[".log", ".Org"])
    assert texts(chosen) == {"a/b.LOG": "two", "c.org": "three"}
    assert texts(make_job("text-files", f"{tmp_path}/**/*.LOG")) == {"a/b.LOG": "two"}
    plain, other = (identifying(each.source, exclude=set(each.source.locating)) for each in (job, chosen))
    assert plain == other
    for wrong in ([], ["log"], [".a/b"]):
        with pytest.raises(BadInput, match=r"source\.suffixes"):
            parse_job({"source": {"kind": "text-files", "suffixes": wrong}})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty text"),
        (b"\xef\xbb\xbf \n", "empty text"),
        ("Drachen fl\xf6gen".encode("latin-1"), "not UTF-8: byte 10 of the file: convert it to text in UTF-8"),
        ("a kite".encode("utf-16"), "not UTF-8: the file is text in UTF-16: convert"),
        ("a kite in UTF-16".encode("utf-16-be"), "not UTF-8: the file is text in UTF-16-BE: convert"),
        (b"%PDF-1.7\n\xe2\xe3\xcf\xd3", "not UTF-8: the file is a PDF document: convert"),
        (b"\x1f\x8b\x08\x00", "not UTF-8: the file is gzip-compressed: convert"),
        (b"x" * 41, "too large: a file of more than 40 bytes"),
    ],
)
def test_what_is_no_text_is_set_aside_and_the_others_are_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(text_folder, "LONGEST_ROW_BYTES", 40)
    monkeypatch.setattr(text_folder, "TOO_LARGE", text_folder.TOO_LARGE.replace(str(16 << 20), "40"))
    job = fill(tmp_path, {"a.txt": b"one", "b.txt": data, "c.txt": b"x" * 40})
    assert list(texts(job)) == ["a.txt", "c.txt"]
    [(row, key, why)] = aside(job)
    assert (row, key) == (1, "b.txt")
    assert why.startswith(reason)


def test_a_file_whose_store_tells_no_size_is_read_no_further_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_folder, "LONGEST_ROW_BYTES", 40)
    [span] = spans_of(fill(tmp_path, {"a.txt": b"x" * 41}))
    unsized = span.files[0].model_copy(update={"size": 0})
    assert text_folder._text_of(unsized) == (None, text_folder.TOO_LARGE)


def test_small_files_are_packed_and_read_some_bytes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_folder, "BATCH_BYTES", 100)
    job = fill(tmp_path, {f"{number:02}.txt": b"x" * 30 for number in range(20)})
    [span] = spans_of(job)
    assert span.rows == 20
    assert [len(chunk.batch) for chunk in prepared(job)] == [3] * 6 + [2]
    spans = spans_of(make_job("text-files", tmp_path, rows=4))
    assert [file.name for span in spans for file in span.files] == [f"{number:02}.txt" for number in range(20)]
    assert len(spans) > 2


def test_a_text_changed_after_planning_is_noticed(tmp_path: Path) -> None:
    job = fill(tmp_path, {f"{number}.txt": b"x" for number in range(5)})
    [span] = spans_of(job)
    (tmp_path / "3.txt").write_bytes(b"yy")
    with pytest.raises(Permanent, match=r"3\.txt was changed"):
        list(open_source(job.source, rows=10).read(shard_of(span)))


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"nothing to read in .*wanted: \.txt, \.md, .*\.pdf"):
        open_source(make_job("text-files", tmp_path).source, rows=1).inspect()


def test_a_sample_is_texts_and_counts_their_bytes_as_texts(tmp_path: Path) -> None:
    job = fill(tmp_path, {f"{number}.txt": b"\xef\xbb\xbfkite" for number in range(5)})
    source = open_source(job.source, rows=10)
    assert sample_texts(source, 2) == ["kite", "kite"]
    sample = Sampler(source, (), job.target, Effort()).take(spans_of(job), 5)
    assert (sample.file_bytes, sample.faults) == ([], [])
    assert pa.concat_tables(sample.rows)["text"].to_pylist() == ["kite"] * 5
