"""JSON Lines: byte ranges hold every line once, whatever the lines look like."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.line_reader import ranged
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tasks.domain.shards.shard import ByteRange, Whole
from tests.builders.source_rows import aside, good, make_job, raw, spans_of
from tests.servers.s3 import S3Bucket


def lines(rows: int) -> bytes:
    return b"".join(json.dumps({"id": i, "text": f"text {i}" + "x" * (i % 50)}).encode() + b"\n" for i in range(rows))


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1_001])
@pytest.mark.parametrize("shard", [1, 10, 100_000])
def test_shards_hold_every_row_once_in_order(tmp_path: Path, rows: int, shard: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    job = make_job("jsonl", tmp_path, rows=shard, id="id")
    assert [row["id"] for row in raw(job)] == list(range(rows))


def test_ranges_aim_at_the_rows_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(1_000))
    spans = spans_of(make_job("jsonl", tmp_path, rows=100))
    assert 9 <= len(spans) <= 12
    assert all(isinstance(span.extent, ByteRange) for span in spans)


LINE = st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"."))


@given(st.lists(st.tuples(LINE, st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"])), max_size=12), st.booleans(), st.integers(1, 40))
def test_ranges_cover_every_line_exactly_once(pieces: list[tuple[bytes, bytes]], final: bool, step: int) -> None:
    data = b"".join(line + end for line, end in pieces) if final else b"".join(line + end for line, end in pieces).rstrip(b"\n")
    found = [line for start in range(0, len(data), step) for line in ranged(io.BytesIO(data), start, min(start + step, len(data)))]
    whole = list(ranged(io.BytesIO(data), 0, max(1, len(data))))
    assert found == whole
    assert [line.data for line in whole] == [
        part.removeprefix(b"\xef\xbb\xbf") if i == 0 else part for i, part in enumerate(data.split(b"\n")) if part.strip()
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), min_size=1, max_size=30), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(1, 9))
def test_texts_come_back_as_they_were_whatever_the_cut(tmp_path: Path, texts: list[str], end: str, final: bool, shard: int) -> None:
    data = end.join(json.dumps({"text": text}) for text in texts) + (end if final else "")
    (tmp_path / "a.jsonl").write_text(data, encoding="utf-8", newline="")
    assert [row["text"] for row in raw(make_job("jsonl", tmp_path / "a.jsonl", rows=shard))] == texts


def test_a_line_longer_than_any_buffer_is_one_row(tmp_path: Path) -> None:
    long = "y" * (3 << 20)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in ("a", long, "b")))
    assert [row["text"] for row in raw(make_job("jsonl", tmp_path, rows=1))] == ["a", long, "b"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_packed_files_are_one_shard_each(tmp_path: Path, suffix: str, pack) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(lines(300)) + pack(lines(5)))
    job = make_job("jsonl", tmp_path, rows=10, id="id")
    assert [span.extent for span in spans_of(job)] == [Whole()]
    assert [row["id"] for row in raw(job)] == [*range(300), *range(5)]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_packed_file_that_is_cut_off_is_told(tmp_path: Path, suffix: str, pack) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(pack(lines(90_000))[:-20])
    with pytest.raises(BadInput, match=rf"a\.jsonl\{suffix} is not a readable JSON Lines file: Truncated"):
        raw(make_job("jsonl", tmp_path))


def test_a_byte_order_mark_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n  \n{"text": "b"}\n\n')
    assert [row["text"] for row in raw(make_job("jsonl", tmp_path))] == ["a", "b"]
    (tmp_path / "a.jsonl").write_bytes(b"\n\n")
    with pytest.raises(BadInput, match="has no rows"):
        spans_of(make_job("jsonl", tmp_path))


def test_a_missing_key_is_null(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "lang": "en"}\n{"text": "b"}\n')
    assert [row["lang"] for row in raw(make_job("jsonl", tmp_path, metadata=["lang"]))] == ["en", None]


def test_types_are_told_by_the_head(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "n": 1, "x": 1, "flag": True, "tags": ["a"], "mixed": 1, "none": None, "big": 2**63},
        {"text": "b", "n": 2, "x": 0.5, "flag": None, "tags": None, "mixed": "b", "none": None, "big": 1},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert open_source(make_job("jsonl", tmp_path).source, rows=1).inspect() == {
        "text": "varchar",
        "n": "int64",
        "x": "double",
        "flag": "bool",
        "tags": "varchar[]",
        "mixed": "varchar",
        "none": "json",
        "big": "varchar",
    }


def test_what_comes_late_in_a_file_or_in_a_later_file_counts(tmp_path: Path) -> None:
    rows = [{"text": "long " * 200, "n": i, "lang": None, "zip": i, "tags": []} for i in range(100)]
    rows += [{"text": "late", "n": 130.5, "lang": "en", "zip": "02134", "tags": ["a"], "new": True}]
    (tmp_path / "lang=de").mkdir()
    (tmp_path / "lang=de" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "lang=de" / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "b", "later": 7, "n": 9007199254740993}'))
    columns = ["n", "lang", "zip", "tags", "new", "later"]
    source = open_source(make_job("jsonl", tmp_path).source, rows=1)
    assert list(source.inspect(columns).values()) == ["double", "varchar", "varchar", "varchar[]", "bool", "int64"]
    assert [note.split(" ")[1] for note in source.notes] == ["'n'", "'zip'"]
    job = make_job("jsonl", tmp_path, metadata=columns)
    first, *_, late = good(job)
    assert [first[name] for name in columns] == [0.0, "de", "0", [], None, None]
    assert [late[name] for name in columns] == [130.5, "en", "02134", ["a"], True, None]
    assert [reason for *_, reason in aside(job)] == [
        "metadata: column 'n' 9007199254740993 would not come back the same from a number: see source.types"
    ]


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(3))
    with pytest.raises(BadInput, match=r"column 'Text' is not in .*a\.jsonl: it has id, text \(did you mean 'text'\?\)"):
        open_source(make_job("jsonl", tmp_path, text="Text").source, rows=1).inspect()


def test_a_line_that_is_not_utf8_is_a_row_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff\xfe"}\n{"text": "\\ud800"}\n{"text": "b"}\n')
    job = make_job("jsonl", tmp_path)
    assert [row[REASON_COLUMN] for row in raw(job)] == [None, "not UTF-8", "not UTF-8", None]
    assert [row["text"] for row in good(job)] == ["a", "b"]
    assert aside(job) == [(1, None, "not UTF-8"), (2, None, "not UTF-8")]


def test_a_last_line_that_is_not_utf8_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}')
    assert len(aside(make_job("jsonl", tmp_path))) == 1


@pytest.mark.parametrize("end", [b'{"text": "c', b'{"text": "c\xc3', b"{"])
def test_a_last_line_that_is_cut_off_is_found_at_planning(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "b"}\n' + end)
    with pytest.raises(BadInput, match=r"a\.jsonl byte 28: the line is cut off or broken"):
        spans_of(make_job("jsonl", tmp_path))


@pytest.mark.parametrize("bad", [b"{'text': 1}", b"[1, 2]", b"null", b'"text"', b"hello"])
def test_a_line_that_is_no_object_names_file_and_byte(tmp_path: Path, bad: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(2_000) + bad + b"\n" + lines(1))
    with pytest.raises(BadInput, match=rf"a\.jsonl byte {len(lines(2_000))}: the line"):
        raw(make_job("jsonl", tmp_path, rows=10))


def test_a_bad_line_in_a_packed_file_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(2_000) + b"oops\n"))
    with pytest.raises(BadInput, match=r"a\.jsonl\.gz line 2001: the line is not JSON"):
        raw(make_job("jsonl", tmp_path))


def test_nan_that_other_writers_leave_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "x": 1.5}\n{"text": "b", "x": NaN}\n')
    assert [row["x"] for row in good(make_job("jsonl", tmp_path, metadata=["x"]))] == [1.5, None]


def test_s3_is_read_by_ranges(s3_bucket: S3Bucket) -> None:
    s3_bucket.put("logs/a.jsonl", lines(500))
    s3_bucket.put("logs/b.jsonl.zst", zstandard.compress(lines(20)))
    job = make_job("jsonl", f"{s3_bucket.url}/logs", rows=100, id="id")
    assert len(spans_of(job)) >= 5
    assert [row["id"] for row in raw(job)] == [*range(500), *range(20)]
