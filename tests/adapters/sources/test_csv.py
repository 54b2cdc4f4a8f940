"""CSV: a quoted newline survives, cells stay as written, and a bad cell is a bad row."""

from __future__ import annotations

import gzip
import io
from csv import writer
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv

from tasks.adapters.rows.row_schema import REASON_COLUMN
from tasks.adapters.sources.registry import open_source
from tasks.adapters.sources.text_files import csv_pieces, csv_rows, line_reader
from tasks.adapters.sources.text_files.csv_dialect import parse_options
from tasks.adapters.sources.text_files.csv_doubts import DOUBTFUL
from tasks.adapters.sources.text_files.csv_pieces import CsvPieces
from tasks.adapters.sources.text_files.csv_structure import CsvDialect, row_starts, structure_of
from tasks.adapters.sources.text_files.line_reader import NOT_UTF8_FILES
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tests.builders.source_rows import aside, good, make_job, prepared, raw, spans_of, write_csv
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
        "column 'zip' holds '02134', which would not round-trip as a number: it is stored as text. "
        "If it is a number, set source.types: {zip: double}"
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
    assert [reason for _, _, reason in aside(job)] == ["metadata: column 'n' '007' would not round-trip as a number: see source.types"]


def test_later_files_may_have_other_columns_and_folders_may_be_columns(tmp_path: Path) -> None:
    for lang, text in (("de", "text\na\n"), ("en", "lang,text,n\n,b,5\nfr,c,2.5\n")):
        (tmp_path / f"lang={lang}").mkdir()
        (tmp_path / f"lang={lang}" / "a.csv").write_text(text)
    rows = good(make_job("csv", tmp_path, metadata=["lang", "n"]))
    assert [(row["text"], row["lang"], row["n"]) for row in rows] == [("a", "de", None), ("b", "en", 5.0), ("c", "fr", 2.5)]
    with pytest.raises(BadInput, match=r"column 'm' is not in .*: it has lang, text, n; if it occurs later, set source.types: \{m: text\}"):
        good(make_job("csv", tmp_path, metadata=["m"]))
    assert [row["m"] for row in good(make_job("csv", tmp_path, metadata=["m"], types={"m": "text"}))] == [None] * 3


def test_a_quoted_nothing_is_a_text_and_an_empty_cell_is_null(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,lang\na,""\nb,\nNA,null\n')
    assert [row["lang"] for row in raw(make_job("csv", tmp_path, metadata=["lang"]))] == ["", None, "null"]


def test_a_cell_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,good\n2,bad \xff\n3,fine\n")
    job = make_job("csv", tmp_path, id="id")
    assert [row["id"] for row in good(job)] == ["1", "3"]
    wrong = "not UTF-8: line 3: set source.encoding if the file has another, such as cp1252 or latin-1"
    assert aside(job) == [(1, "2", wrong)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\na\n")
    assert raw(make_job("csv", tmp_path))[0]["text"] == "a"


def test_a_number_that_comes_later_and_is_none_is_set_aside(tmp_path: Path) -> None:
    rows = "".join(f"t{i},{i}\n" for i in range(20_000))
    (tmp_path / "a.csv").write_text(f"text,n\n{rows}late,many\n")
    job = make_job("csv", tmp_path, metadata=["n"], id="text", types={"n": "int64"})
    assert aside(job) == [(20_000, "late", "metadata: column 'n' 'many' is not a 64-bit integer")]


def test_a_row_longer_than_the_head_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text\n{'x' * 200_000}\nb\n")
    assert [len(row["text"]) for row in raw(make_job("csv", tmp_path))] == [200_000, 1]


def test_a_row_with_too_few_or_many_fields_is_set_aside_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,n\n"a\nb",1\nb\n   \n\n' + "c,2\n" * 20_000 + "d,2,3\ne,4\n")
    job = make_job("csv", tmp_path, metadata=["n"], on_duplicate="last")
    found = raw(job)
    assert len(found) == 20_004
    bad = [(at, row[REASON_COLUMN]) for at, row in enumerate(found) if row[REASON_COLUMN]]
    assert bad == [
        (1, "ragged: line 4: 1 fields, and the header has 2"),
        (20_002, "ragged: line 20007: 3 fields, and the header has 2"),
    ]
    assert (found[0]["text"], found[2]["text"], found[-1]["text"]) == ("a\nb", "c", "e")


SPARK = r"""id,text
s1,"He said \"hi\""
s2,"ends in \""
s3,three
s4,"four \"x\""
s5,five
"""


def test_quotes_that_are_escaped_otherwise_are_told_by_line_and_read_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SPARK)
    assert [reason for _, _, reason in aside(make_job("csv", tmp_path, id="id"))] == [
        r"broken quotes: line 2: text follows a closing quote: is a quote escaped by \? Set source.escape",
        "broken quotes: lines 3 to 5: text follows a closing quote",
    ]
    texts = [row["text"] for row in good(make_job("csv", tmp_path, id="id", escape="\\"))]
    assert texts == ['He said "hi"', 'ends in "', "three", 'four "x"', "five"]


def test_a_file_that_ends_within_quotes_names_the_line_on_which_they_begin(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n" + "0,x\n" * 3_000 + 'c2,"open\nc3,c\nc4,d\n')
    with pytest.raises(BadInput, match=r"a\.csv line 3002: the quote that opens a field here is never closed"):
        raw(make_job("csv", tmp_path, id="id"))
    assert [row["text"] for row in raw(make_job("csv", tmp_path, id="id", quote=""))][-3:] == ['"open', "c", "d"]


@pytest.mark.parametrize("end", ["\n", '"\n', '""x"\n'])
def test_a_row_that_is_too_long_is_set_aside_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    for module in (csv_pieces, csv_rows, line_reader):
        monkeypatch.setattr(module, "LONGEST_ROW_BYTES", 3 << 20)
    quote = '"' if end != "\n" else ""
    (tmp_path / "a.csv").write_text(f"id,text\n1,{quote}" + ("x, \n" if quote else "x  ") * (2 << 20) + end + "2,b\n")
    found = raw(make_job("csv", tmp_path, id="id"))
    assert [(row["id"], row[REASON_COLUMN] and row[REASON_COLUMN][:17]) for row in found] == [(None, "too large: line 2"), ("2", None)]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_told_and_auto_finds_it(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "a.csv").write_text(f"id{delimiter}text\n1{delimiter}a, b\n")
    with pytest.raises(BadInput, match=r"set source\.delimiter to '(;|\\t|\|)', or to auto"):
        spans_of(make_job("csv", tmp_path, id="id"))
    assert raw(make_job("csv", tmp_path, id="id", delimiter="auto"))[0]["text"] == "a, b"
    (tmp_path / "a.csv").write_text(f"sep={delimiter}\nid{delimiter}text\n1{delimiter}a, b\n")
    assert raw(make_job("csv", tmp_path, id="id", delimiter="auto"))[0]["text"] == "a, b"


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings_are_read_and_told(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("id,größe\n1,naïve\n".encode(encoding))
    with pytest.raises(BadInput, match=r"set source\.encoding"):
        spans_of(make_job("csv", tmp_path, id="id", text="größe"))
    assert raw(make_job("csv", tmp_path, id="id", text="größe", encoding=encoding))[0]["größe"] == "naïve"


def test_an_encoding_whose_text_grows_loses_nothing_between_pieces(tmp_path: Path) -> None:
    rows = [f"{at},{'é' * (at % 500)}" for at in range(12_000)]
    (tmp_path / "a.csv").write_bytes("\n".join(["id,text", *rows]).encode("cp1252"))
    assert [f"{row['id']},{row['text'] or ''}" for row in raw(make_job("csv", tmp_path, id="id", encoding="cp1252"))] == rows


CELLS = st.lists(st.sampled_from(["a", ",", '"', "\n", "\r", "\\", " "]), max_size=40).map("".join)


@settings(max_examples=200, deadline=None)
@given(CELLS, st.sampled_from(["", "\\"]))
def test_rows_begin_where_arrow_has_them(text: str, escape: str) -> None:
    data, dialect = f"{text}\n".encode(), CsvDialect(escape=escape)
    structure = structure_of(data, dialect)
    if structure.open_at is not None or not data.strip(b"\r\n"):
        return
    skipped: list[csv.InvalidRow] = []
    options = parse_options(dialect, invalid_row_handler=lambda row: skipped.append(row) or "skip")
    read = csv.ReadOptions(use_threads=False, column_names=["a", "b"])
    rows = csv.read_csv(pa.BufferReader(data), read, options).num_rows + len(skipped)
    assert len(row_starts(data, structure)) == rows


@settings(max_examples=40, deadline=None)
@given(st.lists(CELLS, min_size=1, max_size=6), st.integers(1, 40))
def test_pieces_hold_every_row_once_wherever_reading_stops(cells: list[str], size: int) -> None:
    text = io.StringIO()
    writer(text, lineterminator="\n").writerows([str(at), cell.replace("\r", "")] for at, cell in enumerate(cells))
    data = text.getvalue().encode()
    pieces = list(CsvPieces(io.BytesIO(data), CsvDialect(), "a.csv", begin=b"", line=1, size=size))
    assert b"".join(piece.data for piece in pieces) == data
    assert sum(len(piece.starts) for piece in pieces) == len(cells)
    assert [piece.line for piece in pieces] == [1 + b"".join(p.data for p in pieces[:at]).count(b"\n") for at in range(len(pieces))]


def test_a_missing_column_is_found_in_any_file_at_planning(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", 1)
    (tmp_path / "b.csv").write_text("id,body\n1,a\n")
    with pytest.raises(BadInput, match=r"column 'text' is not in .*b\.csv: it has id, body"):
        spans_of(make_job("csv", tmp_path))


def test_a_header_alone_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n")
    (tmp_path / "b.csv").write_text("")
    (tmp_path / "d.csv").write_text("\n\r\n")
    with pytest.raises(BadInput, match="has no rows"):
        spans_of(make_job("csv", tmp_path))
    write_csv(tmp_path / "c.csv", 2)
    assert [span.files[0].name for span in spans_of(make_job("csv", tmp_path))] == ["c.csv"]


def test_s3_is_read_like_a_folder(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    path = write_csv(tmp_path / "a.csv", 100)
    s3_bucket.put("a.csv", path.read_bytes())
    assert raw(make_job("csv", f"{s3_bucket.url}/a.csv")) == raw(make_job("csv", path))


def found_in(job: Job) -> list[str]:
    """What reading tells beside the rows."""
    return [str(finding) for chunk in prepared(job) for finding in chunk.found]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ('1,plain\n2,"never closed\n3,c\n4,d\n5,e"\n6,f\n7,g\n', "lines 3 to 6"),  # a stray quote at the end of line 6 closes it
        ('1,a\n2,"open\n' + "".join(f"{i},row\n" for i in range(3, 400)) + '400,"x"\n', None),  # text follows: set aside
        ('1,a\n2,"open\n3,b\n4,c, d\n5,e\n6,f\n7,g\n8,h\n9,i"\n', "lines 3 to 10"),
        ("".join(f'{i},"roses are red, they say\nviolets are blue, they say\nand this is verse, {i}"\n' for i in range(9)), None),
        ('1,a\n2,"a long text of many lines\nwith a comma, and, another\nand none\n' + "as prose is\n" * 30 + '"\n3,b\n', None),
        ('1,"said ""x"", and\nleft, so"\n2,b\n', None),
    ],
)
def test_a_quote_that_swallows_rows_and_closes_is_told_with_its_lines(tmp_path: Path, rows: str, lines: str | None) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text(f"id,text\n{rows}")
    job = make_job("csv", tmp_path / "in", id="id")
    source = open_source(job.source, rows=1)
    list(source.spans())
    at_planning = [str(finding) for finding in source.found.all()]
    assert at_planning == found_in(job) == ([f"{DOUBTFUL}: 1, the first: 'a.csv {lines}'"] if lines else [])


def test_a_doubtful_field_behind_the_beginning_is_counted_once_in_its_shard(tmp_path: Path) -> None:
    swallowed = '"open\n' + "".join(f"{i},row\n" for i in range(50)) + '51,end"\n'
    plain = "".join(f"p{i},row\n" for i in range(30_000))
    (tmp_path / "a.csv").write_text(f"id,text\n{plain}x,{swallowed}{plain.replace('p', 'q')}y,{swallowed}")
    job = make_job("csv", tmp_path, id="id")
    assert found_in(job) == [f"{DOUBTFUL}: 2, the first: 'a.csv lines 30002 to 30053'"]
    source = open_source(job.source, rows=1)
    list(source.spans())
    assert not source.found.all()


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [("csv", "id,text\n1,a\n2,café\n", "line 3"), ("jsonl", '{"id":1,"text":"a"}\n{"id":2,"text":"café"}\n', "line 2")],
)
def test_text_that_is_not_utf8_is_told_at_planning_with_its_file(tmp_path: Path, kind: str, text: str, place: str) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.{kind}").write_bytes((text if name != "a" else text.replace("é", "e")).encode("latin-1"))
    source = open_source(make_job(kind, tmp_path).source, rows=1)
    list(source.spans())
    assert [str(finding) for finding in source.found.all()] == [f"{NOT_UTF8_FILES}: 2, the first: 'b.{kind} {place}'"]
    source = open_source(make_job(kind, tmp_path, encoding="latin-1").source, rows=1)
    list(source.spans())
    assert not source.found.all()
