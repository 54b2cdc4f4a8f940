"""JSON Lines: byte ranges hold every line once, whatever the lines look like."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.text_files import line_reader
from tasks.adapters.sources.text_files.json_array import ArrayItems
from tasks.adapters.sources.text_files.line_reader import ranged
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
        "metadata: column 'n' 9007199254740993 would not round-trip as a number: see source.types"
    ]


def test_a_missing_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(3))
    with pytest.raises(BadInput, match=r"column 'Text' is not in .*a\.jsonl: it has id, text \(did you mean 'text'\?\)"):
        open_source(make_job("jsonl", tmp_path, text="Text").source, rows=1).inspect()


def test_a_line_that_is_not_utf8_is_a_row_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff\xfe"}\n{"text": "\\ud800"}\n{"text": "b"}\n')
    job = make_job("jsonl", tmp_path)
    assert [row["text"] for row in good(job)] == ["a", "b"]
    wrong = "not UTF-8: byte 14: set source.encoding if the file has another, such as cp1252 or latin-1"
    assert aside(job) == [(1, None, wrong), (2, None, "not UTF-8: byte 29: half of a surrogate pair")]


def test_long_numbers_and_deep_values_spoil_no_other_row(tmp_path: Path) -> None:
    def nested(levels: int) -> str:
        return f'"id": {"[" * levels}{"]" * levels}'

    rows = [
        '{"text": "a", "id": 12345678901234567890}',
        '{"text": "\\ud800", "id": 12345678901234567890}',
        f'{{"text": "b", {nested(700)}}}',
    ]
    rows += ['{"text": "c", "id": 1}', f'{{"text": "d", "m": NaN, {nested(700)}}}', f'{{"text": "e", {nested(1_400)}}}']
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    job = make_job("jsonl", tmp_path, id="id")
    assert [row["id"] for row in good(job)] == ["12345678901234567890", "1"]
    reasons = [why for _, _, why in aside(job)]
    assert reasons[0] == "not UTF-8: byte 42: half of a surrogate pair"
    assert [why.split(":")[0] for why in reasons[1:]] == ["nested too deep", "not JSON", "nested too deep"]


@pytest.mark.parametrize("beside", ["0.5", "true", '"x"'])
def test_a_number_is_the_same_text_whatever_stands_beside_it(tmp_path: Path, beside: str) -> None:
    values = ["1.0", "2.5", "1e20", "Infinity", "NaN", beside]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "t", "id": {at}, "s": {value}}}\n' for at, value in enumerate(values)))
    job = make_job("jsonl", tmp_path, id="id", metadata=["s"], types={"s": "text"})
    assert [row["s"] for row in good(job)] == ["1", "2.5", "1e+20", "inf", None, beside.strip('"')]


def test_a_last_line_that_is_not_utf8_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "\xff"}')
    assert len(aside(make_job("jsonl", tmp_path))) == 1


@pytest.mark.parametrize("end", [b'{"text": "c', b'{"text": "c\xc3', b"{"])
def test_a_last_line_that_is_cut_off_is_found_at_planning(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "b"}\n' + end)
    with pytest.raises(BadInput, match=r"a\.jsonl line 3: the line is cut off or broken"):
        spans_of(make_job("jsonl", tmp_path))
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' * 10_000 + end)
    with pytest.raises(BadInput, match=r"a\.jsonl byte 140000: the line is cut off or broken"):
        spans_of(make_job("jsonl", tmp_path))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{'text': 1}", "not JSON: byte 70"),
        (b"[1, 2]", "not an object: byte 70"),
        (b"null", "not an object: byte 70"),
        (b"\0\0", "not JSON: byte 70"),
    ],
)
def test_a_line_that_is_no_object_is_a_row_with_a_reason(tmp_path: Path, bad: bytes, why: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + b"x" * 57 + b'"}\n' + bad + b'\n{"text": "b"}\n')
    job = make_job("jsonl", tmp_path)
    assert [(row, reason[: len(why)]) for row, _, reason in aside(job)] == [(1, why)]
    assert [row["row"] for row in good(job)] == [0, 2]


def test_a_bad_line_in_a_packed_file_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(2_000) + b"oops\n"))
    [(row, _, reason)] = aside(make_job("jsonl", tmp_path))
    assert row == 2_000
    assert reason.startswith("not JSON: line 2001: ")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_line_that_is_too_long_is_set_aside_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(line_reader, "LONGEST_ROW_BYTES", 3 << 20)
    pack = gzip.compress if name.endswith(".gz") else bytes
    (tmp_path / name).write_bytes(pack(b'{"text": "' + b"y" * (5 << 20) + b'"}\n' + lines(3)))
    job = make_job("jsonl", tmp_path, rows=1)
    assert [reason.partition(" of more")[0] for _, _, reason in aside(job)] == [
        f"too large: {'line 1' if pack is not bytes else 'byte 0'}: a row"
    ]
    assert len(good(job)) == 3


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress, bytes])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.xz", "a.ndjson.bz2"])
def test_content_tells_how_a_file_is_packed_whatever_it_is_called(tmp_path: Path, packed, name: str) -> None:
    (tmp_path / name).write_bytes(packed(lines(300)))
    job = make_job("jsonl", tmp_path, id="id")
    assert len(spans_of(job)) == 1
    assert [row["id"] for row in raw(job)] == [*range(300)]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\0\0", "no JSON Lines file, but a ZIP archive"),
        (b"<!DOCTYPE html><p>Not found", "no JSON Lines file, but an HTML page"),
        ('{"text": "a"}'.encode("utf-16"), "text in UTF-16, not in UTF-8: set source.encoding to utf-16"),
        ('{"text": "a"}'.encode("utf-16-be"), "text in UTF-16-BE, not in UTF-8: set source.encoding to utf-16-be"),
    ],
)
def test_what_is_no_text_is_told_as_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=what):
        spans_of(make_job("jsonl", tmp_path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252", "shift_jis"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = "日本" if encoding == "shift_jis" else "café"
    (tmp_path / "a.jsonl").write_bytes(f'{{"text": "{text}"}}\n{{"text": "b"}}\n'.encode(encoding))
    assert [row["text"] for row in raw(make_job("jsonl", tmp_path, encoding=encoding))] == [text, "b"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), min_size=1, max_size=20), st.sampled_from([None, 1]), st.integers(1, 60))
def test_an_array_is_read_item_by_item(tmp_path: Path, texts: list[str], indent: int | None, size: int) -> None:
    data = json.dumps([{"text": text, "n": 10**30} for text in texts], indent=indent, ensure_ascii=False).encode()
    items = [json.loads(item.data) for item in ArrayItems(io.BytesIO(data), "a.json", size=size)]
    assert items == [{"text": text, "n": 10**30} for text in texts]
    (tmp_path / "a.json").write_bytes(data)
    assert [row["text"] for row in raw(make_job("jsonl", tmp_path / "a.json"))] == texts


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'[{"text": "a"}, {"te', "item 2: it is not JSON, truncated"),
        (b'[{"text": "a"} {"text": "b"}]', "item 2: a comma or ] is missing"),
        (b'[{"text": "a"}]\n[{"text": "b"}]', "item 2: something follows the array"),
    ],
)
def test_an_array_that_is_broken_names_the_item(tmp_path: Path, data: bytes, why: str) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(BadInput, match=rf"a\.json {why}"):
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


def test_what_was_just_inspected_is_not_sampled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "n": 1, "m": 2}\n')
    source = open_source(make_job("jsonl", tmp_path, metadata=["n", "m"]).source, rows=10)
    asked: list[object] = []
    survey = type(source).survey
    monkeypatch.setattr(type(source), "survey", lambda source, wanted: asked.append(wanted) or survey(source, wanted))
    assert source.inspect(["n"]) == {"n": "int64"}
    assert not source.types_now(["n"]).seen
    assert list(source.types_now(["n", "m"]).seen) == ["m"]
    assert asked == [["n"], ["m"]]
