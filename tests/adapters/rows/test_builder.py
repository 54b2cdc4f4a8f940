"""Rows made ready: keys are texts, bad rows are set aside with a reason, duplicates are settled, nothing is lost."""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.rows import builder, content
from tasks.adapters.rows.key_index import SeenKeys
from tasks.adapters.rows.row_schema import rows_schema
from tasks.domain.errors import BadInput
from tasks.domain.target.fields import ScalarField
from tests.builders.source_rows import aside, good, make_job, prepared
from tests.servers.s3 import S3Bucket


@pytest.fixture
def parquet(tmp_path: Path):
    """Writes columns to a file; its path."""

    def write(columns: dict[str, Any], **options: Any) -> Path:
        path = tmp_path / "rows.parquet"
        rows = max(len(values) for values in columns.values())
        pq.write_table(pa.table({"text": [f"t{i}" for i in range(rows)], **columns}), path, **options)
        return path

    return write


def not_utf8(values: list[bytes]) -> pa.Array:
    """A string column whose bytes nobody has checked, as other writers make them."""
    raw = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


def test_batches_have_the_promised_form_and_rows_are_numbered_through(parquet) -> None:
    path = parquet({"n": list(range(20_000))}, row_group_size=300)
    job = make_job("parquet", path, metadata=["n"], id="text")
    chunks = list(prepared(job))
    assert len(chunks) > 1
    assert all(chunk.batch.schema == rows_schema("text", (ScalarField(name="n", column="n", type="int64"),)) for chunk in chunks)
    assert [row for chunk in chunks for row in chunk.batch.column("row").to_pylist()] == list(range(20_000))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([1, -2], ["1", "-2"]),
        (["a", "ü"], ["a", "ü"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([b"raw", b"x"]), ["raw", "x"]),
        (pa.array([uuid.UUID(int=7).bytes], pa.binary(16)), [str(uuid.UUID(int=7))]),
        (pa.array([uuid.UUID(int=7).bytes], pa.uuid()), [str(uuid.UUID(int=7))]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([dt.date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        (pa.array([12345678901.0, 5.0, -0.0, 1.5, 2.0**53 - 1]), ["12345678901", "5", "0", "1.5", "9007199254740991"]),
        (pa.array([16777216.0, 0.5], pa.float32()), ["16777216", "0.5"]),
        (pa.array([Decimal("12345678901234567890.00"), Decimal("1.50")]), ["12345678901234567890", "1.5"]),
        (pa.array([True, False]), ["true", "false"]),
    ],
)
def test_keys_of_every_type_are_texts(parquet, keys: Any, expected: list[str]) -> None:
    path = parquet({"id": keys, "text": ["t"] * len(expected)})
    assert [row["id"] for row in good(make_job("parquet", path, id="id"))] == expected


def test_a_key_that_a_float_may_have_rounded_is_refused_and_nan_is_no_key(parquet) -> None:
    path = parquet({"id": pa.array([2.0**53, float("nan"), float("inf"), None, 7.0]), "text": list("abcde")})
    job = make_job("parquet", path, id="id")
    assert [row["id"] for row in good(job)] == ["7"]
    lost = "which may have lost digits: write keys as integers or texts"
    assert aside(job) == [
        (0, None, f"id: 9007199254740992.0 is a float, {lost}"),
        (1, None, "null id"),
        (2, None, f"id: inf is a float, {lost}"),
        (3, None, "null id"),
    ]


def test_one_key_is_one_text_whatever_type_a_file_gives_it(parquet, tmp_path: Path) -> None:
    """pandas writes an integer column as floats where one value is missing."""
    for keys in (pa.array([12345678901]), pa.array([12345678901.0]), pa.array(["12345678901"]), pa.array([Decimal(12345678901)])):
        assert [row["id"] for row in good(make_job("parquet", parquet({"id": keys, "text": ["t"]}), id="id"))] == ["12345678901"]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"id": 12345678901, "text": "t"}\n{"id": 12345678901.0, "text": "t"}\n')
    with pytest.raises(BadInput, match="key '12345678901' occurs twice"):
        good(make_job("jsonl", lines, id="id"))


def test_dates_that_nanoseconds_cannot_hold_come_out_as_they_went_in(tmp_path: Path) -> None:
    """Spark, Impala and awswrangler write INT96, which pyarrow reads as nanoseconds unless it is told not to."""
    days = [dt.datetime(9999, 12, 31), dt.datetime(1000, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 4), None]  # noqa: DTZ001 - as Spark's
    table = pa.table({"id": list("abcd"), "text": ["t"] * 4, "day": pa.array(days, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    rows = good(make_job("parquet", tmp_path / "a.parquet", id="id", metadata=["day"]))
    assert [row["day"] for row in rows] == ["9999-12-31T00:00:00.000000", "1000-01-01T00:00:00.000000", "2024-02-29T01:02:03.000004", None]


def test_integers_of_any_size_keep_their_digits(tmp_path: Path) -> None:
    big = ["24197857961711013000000000000000000001", str(2**64), str(-(2**63) - 1), "7"]
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(f'{{"id": {number}, "text": "t", "n": {number}, "o": {{"n": {number}}}}}\n' for number in big))
    rows = good(make_job("jsonl", lines, id="id", metadata=["n", "o"]))
    assert [row["id"] for row in rows] == big
    assert [row["n"] for row in rows] == big
    assert [row["o"] for row in rows] == [f'{{"n":{number}}}' for number in big]


def test_rows_without_a_good_key_are_set_aside(parquet) -> None:
    path = parquet({"id": ["a", None, "", " ", "é" * 300, "b"]})
    job = make_job("parquet", path, id="id")
    assert [row["id"] for row in good(job)] == ["a", "b"]
    assert aside(job) == [
        (1, None, "null id"),
        (2, "", "null id"),
        (3, " ", "null id"),
        (4, "é" * 300, "id too long: 600 bytes, 512 allowed"),
    ]


def test_rows_without_text_are_set_aside(parquet) -> None:
    path = parquet({"id": list("abcdef"), "text": ["x", None, "", " \n\t", "\u2003", "y"]})
    job = make_job("parquet", path, id="id")
    assert [row["text"] for row in good(job)] == ["x", "y"]
    assert aside(job) == [(at, key, "empty text") for at, key in ((1, "b"), (2, "c"), (3, "d"), (4, "e"))]


def test_text_columns_are_joined_by_a_blank_line_without_the_empty_ones(parquet) -> None:
    path = parquet({"title": ["T", None, " ", "T", None], "text": ["B", "B", "B", "", None], "year": [1, 2, 3, 4, None]})
    job = make_job("parquet", path, text=["title", "text", "year"])
    assert [row["text"] for row in good(job)] == ["T\n\nB\n\n1", "B\n\n2", "B\n\n3", "T\n\n4"]
    assert [reason for _, _, reason in aside(job)] == ["empty text"]


def test_a_reason_that_only_speaks_of_utf8_is_told_as_it_is(parquet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by what it is, not by a word in it: a value that an error repeats may be any."""
    for module, name in ((builder, "key_texts"), (content, "texts")):
        monkeypatch.setattr(module, name, lambda column, **_: (column.values, {0: "'UTF-8' is no text"}))
    path = parquet({"id": ["a", "b"], "text": ["one", "two"]})
    assert [why for _, _, why in aside(make_job("parquet", path, id="id"))] == ["id: 'UTF-8' is no text"]
    assert [why for _, _, why in aside(make_job("parquet", path))] == ["text: column 'text' 'UTF-8' is no text"]


def test_bytes_that_are_not_utf8_set_aside_only_their_row(parquet) -> None:
    path = parquet(
        {
            "id": not_utf8([b"a", b"b", b"c\xff", b"d"]),
            "text": not_utf8([b"one", b"\xfftwo", b"three", b"four"]),
            "note": not_utf8([b"", b"", b"", b"\xe9"]),
        }
    )
    job = make_job("parquet", path, id="id", metadata=["note"])
    assert [row["id"] for row in good(job)] == ["a"]
    assert aside(job) == [(1, "b", "not UTF-8"), (2, None, "not UTF-8"), (3, "d", "metadata: column 'note' is not UTF-8")]


def test_a_list_where_a_text_should_be_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": ["b"]}\n{"text": 3}\n')
    job = make_job("jsonl", tmp_path)
    assert [row["text"] for row in good(job)] == ["a", "3"]
    assert [reason for _, _, reason in aside(job)] == ["text: column 'text' holds a list, not a text"]


def test_a_text_longer_than_milvus_stores_is_embedded_whole(parquet) -> None:
    job = make_job("parquet", parquet({"text": ["x" * 65_536]}))
    assert aside(job) == []
    assert [len(row["text"]) for row in good(job)] == [65_536]


def test_metadata_becomes_what_the_field_is(parquet) -> None:
    now = dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)
    path = parquet(
        {
            "when": [now, None],
            "day": [now.date(), None],
            "price": [decimal.Decimal("1.50"), None],
            "key": pa.array([uuid.UUID(int=7).bytes, None], pa.uuid()),
            "flag": [True, None],
            "x": pa.array([float("nan"), 2.5], pa.float32()),
            "tags": [["a", None], None],
            "inner": [{"a": now.date(), "b": [1.5]}, None],
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        }
    )
    names = ["when", "day", "price", "key", "flag", "x", "tags", "inner", "map"]
    first, second = good(make_job("parquet", path, metadata=names))
    assert {name: first[name] for name in names} == {
        "when": "2024-02-29T12:30:00.000000Z",
        "day": "2024-02-29",
        "price": 1.5,
        "key": str(uuid.UUID(int=7)),
        "flag": True,
        "x": None,
        "tags": ["a"],
        "inner": '{"a":"2024-02-29","b":[1.5]}',
        "map": '{"k":1}',
    }
    assert [second[name] for name in names] == [None, None, None, None, None, 2.5, None, None, None]


LISTS: list[tuple[Any, list[Any]]] = [
    ([["a", "ü"], [], None, [None, "b"]], [["a", "ü"], [], None, ["b"]]),
    (pa.array([[1, 2], [None]], pa.large_list(pa.int16())), [[1, 2], []]),
    (pa.array([[0.5, float("nan")], None], pa.list_(pa.float32(), 2)), [[0.5], None]),
    (pa.array([[True, False]], pa.list_view(pa.bool_())), [[True, False]]),
    (pa.array([[dt.date(2024, 2, 29)]], pa.list_(pa.date32())), [["2024-02-29"]]),
    (pa.array([[2**64 - 1]], pa.list_(pa.uint64())), [["18446744073709551615"]]),
    (pa.ListArray.from_arrays([0, 1, 3], pa.array(["a", "b", "a"]).dictionary_encode()), [["a"], ["b", "a"]]),
    (pa.array([[[1], [2]]]), ["[[1],[2]]"]),
    (pa.array([[{"a": 1}]]), ['[{"a":1}]']),
    (pa.array([[None], []], pa.list_(pa.null())), ["[null]", "[]"]),
]


@pytest.mark.parametrize(("values", "expected"), LISTS)
def test_lists_become_arrays_and_deeper_ones_json(parquet, values: Any, expected: list[Any]) -> None:
    assert [row["m"] for row in good(make_job("parquet", parquet({"m": values}), metadata=["m"]))] == expected


def test_lists_of_one_kind_are_arrays_in_json_lines_too(tmp_path: Path) -> None:
    rows = [{"text": "0", "s": ["a", None], "n": [1], "x": [0.5, 2], "mixed": ["a", 1], "now_and_then": ["a"], "empty": []}]
    rows += [{"text": "1", "s": None, "n": [], "mixed": [], "now_and_then": "a", "empty": []}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = good(make_job("jsonl", tmp_path, metadata=["s", "n", "x", "mixed", "now_and_then", "empty"]))
    assert [first[name] for name in ("s", "n", "x", "mixed", "now_and_then", "empty")] == [["a"], [1], [0.5, 2.0], '["a",1]', '["a"]', "[]"]
    assert [second[name] for name in ("s", "n", "x", "mixed", "now_and_then")] == [None, [], None, "[]", '"a"']


def test_arrays_that_milvus_does_not_take_set_aside_only_their_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t{i}", "n": [i], "s": ["a"]} for i in range(2_000)]
    rows += [{"text": "bad", "n": [1, "many"]}, {"text": "no list", "n": 1}, {"text": "many", "n": [1] * 4_097}]
    rows += [{"text": "long", "s": ["x" * 40_000] * 2}, {"text": "fine", "n": ["17", None] * 4_096, "s": ["x" * 65_535]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = make_job("jsonl", tmp_path, metadata=["n", "s"], types={"n": "int64[]"})
    assert [(row, reason) for row, _, reason in aside(job)] == [
        (2_000, "metadata: column 'n' in its list: 'many' is not a 64-bit integer"),
        (2_001, "metadata: column 'n' 1 is not a list"),
        (2_002, "metadata: column 'n' has 4097 elements, 4096 allowed"),
        (2_003, "metadata: column 's' has 80000 bytes, 65535 allowed"),
    ]
    [fine] = [row for row in good(job) if row["text"] == "fine"]
    assert (fine["n"], fine["s"]) == ([17] * 4_096, ["x" * 65_535])


def test_a_later_file_may_hold_its_lists_otherwise(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "m": [["1", "2"]]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "m": pa.array([[1, 2]], pa.large_list(pa.int8()))}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": ["c"], "m": ["1"]}), tmp_path / "c.parquet")
    job = make_job("parquet", tmp_path, metadata=["m"], types={"m": "text[]"})
    assert [row["m"] for row in good(job)] == [["1", "2"], ["1", "2"]]
    assert [reason for _, _, reason in aside(job)] == ["metadata: column 'm' '1' is not a list"]


def test_json_stays_as_it_was_and_one_key_may_hold_many_kinds(tmp_path: Path) -> None:
    metas = [{"a": [1, {"b": None}]}, [], "text", 5, None, True]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"t{i}", "m": meta}) for i, meta in enumerate(metas)))
    found = [row["m"] for row in good(make_job("jsonl", tmp_path, metadata=["m"]))]
    assert [None if text is None else json.loads(text) for text in found] == metas


def test_values_that_do_not_convert_set_aside_only_their_rows(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"t{i}", "n": i, "x": 0.5, "flag": True, "s": "a"} for i in range(2_000)]
    rows += [{"text": "bad n", "n": "many"}, {"text": "bad x", "x": "inf"}, {"text": "bad flag", "flag": "maybe"}]
    rows += [{"text": "long", "s": "x" * 65_536}, {"text": "fine", "n": "17", "x": "1e3", "s": 5}, {"text": "too big", "n": 2**63}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = make_job("jsonl", tmp_path, metadata=["n", "x", "flag", "s"], types={"n": "int64", "x": "double", "flag": "bool"})
    assert [(row, reason) for row, _, reason in aside(job)] == [
        (2_000, "metadata: column 'n' 'many' is not a 64-bit integer"),
        (2_001, "metadata: column 'x' is infinite"),
        (2_002, "metadata: column 'flag' 'maybe' is neither true nor false"),
        (2_003, "metadata: column 's' has 65536 bytes, 65535 allowed"),
        (2_005, f"metadata: column 'n' {2**63} is not a 64-bit integer"),
    ]
    [fine] = [row for row in good(job) if row["text"] == "fine"]
    assert (fine["n"], fine["x"], fine["s"]) == (17, 1000.0, "5")


def test_durations_say_their_unit_and_become_seconds_where_they_are_to_be_numbers(parquet) -> None:
    spans = [dt.timedelta(hours=25, microseconds=500), dt.timedelta(seconds=-5), dt.timedelta()]
    path = parquet({"took": spans, "at": [dt.datetime(1970, 1, 2, tzinfo=dt.UTC), None, dt.datetime(1970, 1, 1, 0, 0, 0, 500_000, dt.UTC)]})
    assert [row["took"] for row in good(make_job("parquet", path, metadata=["took"]))] == ["PT25H0.0005S", "-PT5S", "PT0S"]
    job = make_job("parquet", path, metadata=["took", "at"], types={"took": "double", "at": "double"})
    assert [(row["took"], row["at"]) for row in good(job)] == [(90_000.0005, 86_400.0), (-5.0, None), (0.0, 0.5)]


def test_a_map_with_a_key_twice_keeps_both_without_a_warning(parquet, recwarn: pytest.WarningsRecorder) -> None:
    path = parquet({"m": pa.array([[("a", 1), ("a", 2)], [("a", 1)]], pa.map_(pa.string(), pa.int64()))})
    assert [row["m"] for row in good(make_job("parquet", path, metadata=["m"]))] == ['[["a",1],["a",2]]', '{"a":1}']
    assert not list(recwarn)


def test_without_a_key_the_content_is_the_key_and_the_same_content_is_one_row(parquet) -> None:
    path = parquet({"text": ["a", "b", "a"]})
    chunks = list(prepared(make_job("parquet", path)))
    assert [row["id"] for chunk in chunks for row in chunk.batch.to_pylist()] == [hashlib.sha256(t).hexdigest()[:32] for t in (b"a", b"b")]
    assert sum(chunk.duplicates for chunk in chunks) == 1


KEYS = ["a", "b", "a", "c", "b", "a"]


def test_a_key_that_comes_twice_is_refused_by_name(parquet) -> None:
    path = parquet({"id": KEYS})
    with pytest.raises(BadInput, match=r"key 'a' occurs twice in .*rows\.parquet: rows 0 and 2 of shard .*: make the keys unique") as told:
        list(prepared(make_job("parquet", path, id="id")))
    assert told.value.row == 0


@pytest.mark.parametrize(("policy", "rows"), [("first", [0, 1, 3]), ("last", [3, 4, 5])])
@pytest.mark.parametrize("group", [1, 2, 100])
def test_first_or_last_stays_and_the_others_are_counted(parquet, policy: str, rows: list[int], group: int) -> None:
    path = parquet({"id": KEYS}, row_group_size=group)
    chunks = list(prepared(make_job("parquet", path, id="id", on_duplicate=policy)))
    assert [row["row"] for chunk in chunks for row in chunk.batch.to_pylist()] == rows
    assert sum(chunk.duplicates for chunk in chunks) == 3


def test_a_bad_row_does_not_take_the_place_of_a_good_one(parquet) -> None:
    path = parquet({"id": ["a", "a", "a"], "text": [None, "good", " "]})
    for policy in ("refuse", "first", "last"):
        assert [row["row"] for row in good(make_job("parquet", path, id="id", on_duplicate=policy))] == [1]


def test_pictures_come_as_bytes_paths_or_uris(parquet, tmp_path: Path) -> None:
    both = pa.array(
        [{"bytes": b"one", "path": "x.jpg"}, {"bytes": None, "path": "sub/two.jpg"}, None, {"bytes": b"", "path": None}],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    places = ["sub/two.jpg", "s3://bucket/three.jpg", "/abs/four.jpg", f"file://{tmp_path}/a%20b.jpg"]
    opened = ["s3://bucket/"]
    path = parquet({"id": range(4), "raw": [b"one", None, b"", b"four"], "both": both, "place": places})

    def found(column: str) -> list[tuple[bytes | None, str | None]]:
        return [(row["image"], row["image_uri"]) for row in good(make_job("parquet", path, id="id", image=column, references=opened))]

    assert found("raw") == [(b"one", None), (b"four", None)]
    assert found("both") == [(b"one", None), (None, str(tmp_path / "sub/two.jpg"))]
    assert [uri for _, uri in found("place")] == [str(tmp_path / "sub/two.jpg"), places[1], places[2], str(tmp_path / "a b.jpg")]
    assert aside(make_job("parquet", path, id="id", image="both")) == [(2, "2", "no image"), (3, "3", "no image")]


def test_a_path_stays_below_its_files_folder_unless_it_is_given_in_full(parquet, tmp_path: Path) -> None:
    """A list of paths may be somebody else's."""
    places = ["../up.jpg", "sub/../../up.jpg", "..", "sub/../two.jpg", "./three.jpg", f"{tmp_path}/../in/full.jpg"]
    job = make_job("parquet", parquet({"id": range(6), "place": places}), id="id", image="place")
    inside = [str(tmp_path / "two.jpg"), str(tmp_path / "three.jpg"), places[5]]
    assert [row["image_uri"] for row in good(job)] == inside
    words = "points outside the folder of its file: use an absolute path or a URI"
    assert aside(job) == [(at, str(at), f"image outside source.references: '{places[at]}' {words}") for at in range(3)]


def test_a_file_from_elsewhere_names_no_file_of_this_machine(s3_bucket: S3Bucket) -> None:
    places = ["/etc/passwd", "file:///etc/passwd", "../other.jpg", "sub/a.jpg", "s3://other/b.jpg", "https://host/c.jpg"]
    s3_bucket.put("lists/a.jsonl", "\n".join(json.dumps({"id": str(at), "p": p}) for at, p in enumerate(places)).encode())
    job = make_job("jsonl", f"{s3_bucket.url}/lists/a.jsonl", id="id", image="p")
    assert [row["image_uri"] for row in good(job)] == [f"{s3_bucket.url}/lists/sub/a.jpg"]
    assert [(row, reason.partition(":")[0]) for row, _, reason in aside(job)] == [
        (at, "image outside source.references") for at in (0, 1, 2, 4, 5)
    ]
    job = make_job("jsonl", f"{s3_bucket.url}/lists/a.jsonl", id="id", image="p", references=["https", "s3://other/", "/etc/"])
    assert [row["image_uri"] for row in good(job)] == ["/etc/passwd", "/etc/passwd", f"{s3_bucket.url}/lists/sub/a.jpg", *places[4:]]


def test_pictures_without_a_key_are_keyed_by_their_bytes_wherever_they_are(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    (tmp_path / "one.jpg").write_bytes(b"one")
    uri = s3_bucket.put("one.jpg", b"one")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"p": p}) for p in ("one.jpg", uri, "gone.jpg")))
    chunks = list(prepared(make_job("jsonl", tmp_path / "a.jsonl", image="p", references=[s3_bucket.url])))
    assert [row["id"] for chunk in chunks for row in chunk.batch.to_pylist()] == [hashlib.sha256(b"one").hexdigest()[:32]]
    assert sum(chunk.duplicates for chunk in chunks) == 1
    [gone] = [row for chunk in chunks for row in chunk.quarantined]
    assert gone.row == 2
    assert gone.reason.startswith(f"image cannot be read: {tmp_path}/gone.jpg")


@given(st.lists(st.lists(st.integers(0, 30).map(str), max_size=8), max_size=8), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_index_is_exact_whether_keys_are_in_memory_or_on_disk(batches: list[list[str]], in_memory: int) -> None:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    row = 0
    with SeenKeys(in_memory=in_memory) as adds, SeenKeys(in_memory=in_memory) as replaces:
        for keys in batches:
            rows = list(range(row, row + len(keys)))
            row += len(keys)
            expected = {at: first.setdefault(key, rows[at]) for at, key in enumerate(keys) if first.setdefault(key, rows[at]) != rows[at]}
            assert adds.add(keys, rows) == expected
            replaces.replace(keys, rows)
            last.update(zip(keys, rows, strict=True))
        assert adds.rows_of(list(first)) == first
        assert replaces.rows_of(list(last)) == last


def test_the_index_takes_any_text_as_a_key() -> None:
    odd = ["", "\x00", "a\x00b", "a\x00c", "'", "%", "é", "e\u0301", "a", "A"]
    with SeenKeys(in_memory=1) as index:
        assert index.add(odd, list(range(len(odd)))) == {}
        assert index.add(odd, list(range(100, 100 + len(odd)))) == {i: i for i in range(len(odd))}
