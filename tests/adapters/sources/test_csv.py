"""CSV: a quoted newline survives, cells stay as written, and a bad cell is a bad row."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tests.builders.source_rows import aside, good, make_job, raw, spans_of, write_csv
from tests.servers.s3 import S3Bucket


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1_001, 20_000])
def test_quoted_newlines_survive_and_every_row_comes_once(tmp_path: Path, rows: int) -> None:
    write_csv(tmp_path / "a.csv", rows)
    found = raw(make_job("csv", tmp_path, id="id"))
    assert [(row["id"], row["text"]) for row in found] == [(str(i), f'line one\nline "two", of {i}\r\nthree') for i in range(rows)]


def test_packed_files_and_other_delimiters_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"id\ttext\n1\ta,b\n"))
    assert raw(make_job("csv", tmp_path, id="id", delimiter="\t"))[0]["text"] == "a,b"


def test_types_are_told_by_the_head_and_no_digit_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n,x,flag,zip,none,day\na,1,0.5,true,01234,,2024-01-01\nb,,2,false,99999,,\n")
    assert open_source(make_job("csv", tmp_path).source, rows=1).inspect() == {
        "text": "varchar",
        "n": "int64",
        "x": "double",
        "flag": "bool",
        "zip": "varchar",
        "none": "json",
        "day": "varchar",
    }
    rows = good(make_job("csv", tmp_path, metadata=["n", "x", "flag", "zip"]))
    assert [(row["n"], row["x"], row["flag"], row["zip"]) for row in rows] == [(1, 0.5, True, "01234"), (None, 2.0, False, "99999")]


def test_numbers_that_are_names_stay_texts_and_a_note_says_so(tmp_path: Path) -> None:
    names = {
        "zip": ("90210", "02134"),
        "order": ("12345678901234567890",) * 2,
        "version": ("3.1", "3.10"),
        "phone": ("+4915112345678",) * 2,
    }
    numbers = {"n": ("-7", "0"), "x": ("5", "1.5E-7"), "price": ("2.5", "100.0")}
    columns = {**names, **numbers}
    head = [f"{'long ' * 200},{','.join(first for first, _ in columns.values())}\n"] * 100
    (tmp_path / "a.csv").write_text(f"text,{','.join(columns)}\n{''.join(head)}last,{','.join(last for _, last in columns.values())}\n")
    source = open_source(make_job("csv", tmp_path).source, rows=1)
    assert source.inspect(list(columns)) == {**dict.fromkeys(names, "varchar"), "n": "int64", "x": "double", "price": "double"}
    assert source.notes[0] == (
        "column 'zip' holds '02134', which a number would not give back: it is stored as text. "
        "Where it is a number, set source.types: {zip: double}"
    )
    last = good(make_job("csv", tmp_path, metadata=list(columns)))[-1]
    assert {name: last[name] for name in names} == {name: value for name, (_, value) in names.items()}
    assert [last[name] for name in numbers] == [0, 1.5e-7, 100.0]


def test_a_declared_type_takes_every_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,zip,price\na,2134,1.50\nb,90210,+2\n")
    rows = good(make_job("csv", tmp_path, metadata=["zip", "price"], types={"zip": "text", "price": "double"}))
    assert [(row["zip"], row["price"]) for row in rows] == [("2134", 1.5), ("90210", 2.0)]


def test_a_text_beyond_the_sample_that_its_number_would_not_give_back_is_set_aside(tmp_path: Path) -> None:
    rows = "".join(f"{'x' * 50_000},{i},{i}.5\n" for i in range(400))
    (tmp_path / "a.csv").write_text(f"text,n,x\n{rows}late,007,3.10\nlater,7,3.1\n")
    job = make_job("csv", tmp_path, metadata=["n", "x"])
    assert [reason for _, _, reason in aside(job)] == [
        "metadata: column 'n' '007' would not come back the same from a number: see source.types"
    ]


def test_later_files_may_have_other_columns_and_folders_may_be_columns(tmp_path: Path) -> None:
    for lang, text in (("de", "text\na\n"), ("en", "lang,text,n\n,b,5\nfr,c,2.5\n")):
        (tmp_path / f"lang={lang}").mkdir()
        (tmp_path / f"lang={lang}" / "a.csv").write_text(text)
    rows = good(make_job("csv", tmp_path, metadata=["lang", "n"]))
    assert [(row["text"], row["lang"], row["n"]) for row in rows] == [("a", "de", None), ("b", "en", 5.0), ("c", "fr", 2.5)]
    with pytest.raises(BadInput, match=r"column 'm' is not in .*: it has lang, text, n; if it comes later, set source.types: \{m: text\}"):
        good(make_job("csv", tmp_path, metadata=["m"]))
    assert [row["m"] for row in good(make_job("csv", tmp_path, metadata=["m"], types={"m": "text"}))] == [None] * 3


def test_a_quoted_nothing_is_a_text_and_an_empty_cell_is_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,lang\na,""\nb,\nNA,null\n')
    assert [row["lang"] for row in raw(make_job("csv", tmp_path, metadata=["lang"]))] == ["", None, "null"]


def test_a_cell_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,good\n2,bad \xff\n3,fine\n")
    job = make_job("csv", tmp_path, id="id")
    assert [row["id"] for row in good(job)] == ["1", "3"]
    assert aside(job) == [(1, "2", "not UTF-8")]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\na\n")
    assert raw(make_job("csv", tmp_path))[0]["text"] == "a"


def test_a_number_that_comes_later_and_is_none_is_set_aside(tmp_path: Path) -> None:
    rows = "".join(f"t{i},{i}\n" for i in range(20_000))
    (tmp_path / "a.csv").write_text(f"text,n\n{rows}late,many\n")
    job = make_job("csv", tmp_path, metadata=["n"], id="text", types={"n": "int64"})
    assert aside(job) == [(20_000, "late", "metadata: column 'n' 'many' is no whole number of 64 bits")]


def test_a_row_longer_than_the_head_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\nb\n")
    assert [len(row["text"]) for row in raw(make_job("csv", tmp_path))] == [200_000, 1]


@pytest.mark.parametrize(
    ("content", "why"),
    [("text,n\na,1\nb\n", "Expected 2 columns, got 1"), ("text,n\na,1,2\n", "Expected 2 columns, got 3"), ("\n", "Empty CSV file")],
)
def test_a_broken_file_is_told_with_the_place(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(BadInput, match=rf"a\.csv is not a readable CSV file: .*{why}"):
        spans_of(make_job("csv", tmp_path))


def test_a_later_row_that_is_broken_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,n\n" + "a,1\n" * 50_000 + "b\n")
    with pytest.raises(BadInput, match=r"a\.csv is not a readable CSV file"):
        raw(make_job("csv", tmp_path))


def test_a_missing_column_is_found_in_any_file_at_planning(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 1)
    (tmp_path / "b.csv").write_text("id,body\n1,a\n")
    with pytest.raises(BadInput, match=r"column 'text' is not in .*b\.csv: it has id, body"):
        spans_of(make_job("csv", tmp_path))


def test_a_header_alone_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n")
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(BadInput, match="has no rows"):
        spans_of(make_job("csv", tmp_path))
    write_csv(tmp_path / "c.csv", 2)
    assert [span.files[0].name for span in spans_of(make_job("csv", tmp_path))] == ["c.csv"]


def test_s3_is_read_like_a_folder(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    path = write_csv(tmp_path / "a.csv", 100)
    s3_bucket.put("a.csv", path.read_bytes())
    assert raw(make_job("csv", f"{s3_bucket.url}/a.csv")) == raw(make_job("csv", path))
