"""Parquet: row groups make shards, and only the wanted columns are read."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.files.partitions import NULL
from tasks.adapters.files.tables.spark_sink import NOT_COMMITTED
from tasks.adapters.sources.parquet import footer_of
from tasks.adapters.sources.registry import open_source, sample_texts
from tasks.domain.errors import BadInput, Permanent
from tests.builders.source_rows import good, make_job, raw, shard_of, spans_of
from tests.servers.s3 import S3Bucket


def table(rows: int, first: int = 0) -> pa.Table:
    numbers = range(first, first + rows)
    return pa.table({"id": [f"k{i}" for i in numbers], "text": [f"text {i}" for i in numbers], "n": list(numbers)})


def write(path: Path, rows: int, *, group: int, first: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, first), path, row_group_size=group)
    return path


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 64, 1_001])
@pytest.mark.parametrize(("group", "shard"), [(1, 3), (10, 10), (10, 25), (10, 7), (5_000, 10)])
def test_shards_hold_every_row_once_in_order(tmp_path: Path, rows: int, group: int, shard: int) -> None:
    write(tmp_path / "a.parquet", rows, group=group)
    write(tmp_path / "sub" / "b.parquet", 3, group=group, first=rows)
    job = make_job("parquet", tmp_path, rows=shard, id="id")
    assert [row["id"] for row in raw(job)] == [f"k{i}" for i in range(rows + 3)]
    assert sum(span.rows or 0 for span in spans_of(job)) == rows + 3


def test_row_groups_are_gathered_up_to_the_rows_wanted_and_never_over_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 45, group=10)
    write(tmp_path / "b.parquet", 5, group=10)
    spans = spans_of(make_job("parquet", tmp_path, rows=24))
    assert [(s.files[0].name, s.extent.start, s.extent.stop, s.rows) for s in spans] == [  # type: ignore[union-attr]
        ("a.parquet", 0, 2, 20),
        ("a.parquet", 2, 4, 20),
        ("a.parquet", 4, 5, 5),
        ("b.parquet", 0, 1, 5),
    ]


def test_only_wanted_columns_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 3, group=3)
    assert set(raw(make_job("parquet", tmp_path, metadata=["n"]))[0]) == {"text", "n"}


def test_wide_rows_come_in_small_batches(tmp_path: Path) -> None:
    wide = pa.table({"text": [f"{i:04d}" * 250_000 for i in range(40)]})
    pq.write_table(wide, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    source = open_source(make_job("parquet", tmp_path).source, rows=100)
    [span] = source.spans()
    sizes = [batch.nbytes for batch in source.read(shard_of(span))]
    assert len(sizes) > 1
    assert max(sizes) < 20 << 20


def test_types_become_field_types(tmp_path: Path) -> None:
    now = dt.datetime(2024, 2, 29, tzinfo=dt.UTC)
    columns = {
        "text": pa.array(["a"]),
        "int8": pa.array([1], pa.int8()),
        "uint64": pa.array([1], pa.uint64()),
        "float": pa.array([1], pa.float32()),
        "flag": pa.array([True]),
        "when": pa.array([now]),
        "day": pa.array([now.date()]),
        "price": pa.array([1], pa.decimal128(9, 2)),
        "raw": pa.array([b"x"]),
        "tags": pa.array([["a"]]),
        "sizes": pa.array([[1]], pa.large_list(pa.int16())),
        "point": pa.array([[0.5, 1]], pa.list_(pa.float32(), 2)),
        "flags": pa.array([[True]], pa.list_view(pa.bool_())),
        "deep": pa.array([[["a"]]]),
        "structs": pa.array([[{"a": 1}]]),
        "inner": pa.array([{"a": 1}]),
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        "none": pa.nulls(1),
        "code": pa.array(["a"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert open_source(make_job("parquet", tmp_path).source, rows=1).inspect() == {
        "text": "varchar",
        "int8": "int64",
        "uint64": "varchar",
        "float": "double",
        "flag": "bool",
        "when": "varchar",
        "day": "varchar",
        "price": "double",
        "raw": "varchar",
        "tags": "varchar[]",
        "sizes": "int64[]",
        "point": "double[]",
        "flags": "bool[]",
        "deep": "json",
        "structs": "json",
        "inner": "json",
        "map": "json",
        "none": "json",
        "code": "varchar",
    }


def test_s3_gives_the_same_rows_and_names_as_a_folder(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    for name, rows in (("docs/a.parquet", 30), ("docs/sub/b.parquet", 5)):
        path = write(tmp_path / name, rows, group=10)
        s3_bucket.put(name, path.read_bytes())
    here, there = (make_job("parquet", f"{root}/docs/**/*.parquet", rows=20, id="id") for root in (tmp_path, s3_bucket.url))
    assert raw(here) == raw(there)
    assert [(s.files[0].name, s.extent) for s in spans_of(here)] == [(s.files[0].name, s.extent) for s in spans_of(there)]


def test_a_file_changed_between_plan_and_read_is_refused(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    for uri, put in (
        (str(tmp_path / "a.parquet"), (tmp_path / "a.parquet").write_bytes),
        (f"{s3_bucket.url}/a.parquet", lambda data: s3_bucket.put("a.parquet", data)),
    ):
        put(packed(table(5)))
        source = open_source(make_job("parquet", uri).source, rows=10)
        [span] = source.spans()
        put(packed(table(6)))
        with pytest.raises(Permanent, match=r"a\.parquet was changed while it was being read: run again"):
            list(source.read(shard_of(span)))


def test_a_file_changed_while_it_is_read_is_refused_before_the_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 20, group=10)
    source = open_source(make_job("parquet", path).source, rows=100)
    [span] = source.spans()
    batches = source.read(shard_of(span))
    next(batches)
    path.rename(tmp_path / "old")
    write(path, 20, group=10, first=100)
    with pytest.raises(Permanent, match="changed while it was being read"):
        list(batches)


def packed(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()


def test_a_missing_column_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1, group=1)
    with pytest.raises(BadInput, match=r"column 'txet' is not in .*a\.parquet: it has id, text, n \(did you mean 'text'\?\)"):
        open_source(make_job("parquet", tmp_path, text="txet").source, rows=1).inspect()


def test_metadata_that_a_file_lacks_is_null_and_a_missing_key_is_found_at_planning(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": ["c"], "text": ["c"], "n": [2.5]}), tmp_path / "c.parquet")
    write(tmp_path / "d.parquet", 1, group=1)
    assert [row["n"] for row in good(make_job("parquet", tmp_path, metadata=["n"]))] == [None, 2.5, 0.0]
    with pytest.raises(BadInput, match=r"column 'id' is not in .*b\.parquet: it has text"):
        spans_of(make_job("parquet", tmp_path, id="id"))
    with pytest.raises(BadInput, match=r"column 'nn' is not in .*: it has text, id, n \(did you mean 'n'\?\)$"):
        good(make_job("parquet", tmp_path, metadata=["nn"]))


def test_types_are_the_union_over_all_files_with_a_note(tmp_path: Path) -> None:
    columns = {
        "n": [1],
        "x": [1],
        "none": pa.nulls(1),
        "s": [1.5],
        "tags": pa.array([["a"]]),
        "big": pa.array([Decimal("1.5")], pa.decimal128(38, 18)),
    }
    pq.write_table(pa.table({"text": ["a"], **columns}), tmp_path / "a.parquet")
    later = {"n": [2**40], "x": [0.5], "none": ["en"], "s": ["x"], "tags": pa.array([[1]]), "big": pa.nulls(1)}
    pq.write_table(pa.table({"text": ["b"], **later}), tmp_path / "b.parquet")
    source = open_source(make_job("parquet", tmp_path).source, rows=1)
    types = source.inspect(list(columns))
    assert types == {"n": "int64", "x": "double", "none": "varchar", "s": "varchar", "tags": "varchar[]", "big": "varchar"}
    assert source.notes[0] == "column 'x' is int64 in a.parquet, double in b.parquet: it is stored as double"
    assert [note.split("'")[1] for note in source.notes] == ["x", "s", "tags", "big"]
    rows = good(make_job("parquet", tmp_path, metadata=list(columns)))
    assert [(row["x"], row["none"], row["tags"], row["big"]) for row in rows] == [
        (1.0, None, ["a"], "1.500000000000000000"),
        (0.5, "en", ["1"], None),
    ]


def test_folders_of_partitions_are_typed_columns(tmp_path: Path) -> None:
    for folder, year in (("lang=de/year=2023", 1), ("lang=en%20us/year=2024", 2), (f"lang={NULL}/year=2024", 3)):
        write(tmp_path / folder / "part-0.parquet", 1, group=1, first=year)
    rows = good(make_job("parquet", tmp_path, metadata=["lang", "year"]))
    assert [(row["lang"], row["year"]) for row in rows] == [(None, 2024), ("de", 2023), ("en us", 2024)]


def test_folders_that_the_uri_itself_leads_through_are_no_columns_and_it_says_so(tmp_path: Path) -> None:
    write(tmp_path / "t" / "lang=de" / "year=2024" / "part-0.parquet", 1, group=1)
    for uri in (f"{tmp_path}/t/lang=de/", f"{tmp_path}/t/lang=de/year=2024/part-0.parquet"):
        with pytest.raises(BadInput, match=rf"'lang' is not in .*; a folder of source\.uri is no column: give '{tmp_path}/t', the parent"):
            open_source(make_job("parquet", uri, metadata=["lang"]).source, rows=9).inspect(["lang"])
    assert [row["year"] for row in good(make_job("parquet", f"{tmp_path}/t/lang=de", metadata=["year"]))] == [2024]
    assert [row["lang"] for row in good(make_job("parquet", f"{tmp_path}/t/lang=[d]e/", metadata=["lang"]))] == ["de"]


def spark_log(*paths: str, action: str = "add") -> bytes:
    entry = {"size": 1, "isDir": False, "modificationTime": 0, "blockReplication": 1, "blockSize": 1, "action": action}
    return "\n".join(["v1", *(json.dumps({"path": path, **entry}) for path in paths)]).encode()


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_of_sparks_streaming_output_the_committed_files_are_read(tmp_path: Path, s3_bucket: S3Bucket, where: str) -> None:
    log = {
        "0": spark_log("file:///elsewhere/t/part-gone.parquet"),
        "9.compact": spark_log("s3a://lake/t/part-0.parquet", "s3a://lake/t/part-1.parquet"),
        "10": spark_log("s3a://lake/t/l%3Dx/part-2.parquet"),
        "11": spark_log("s3a://lake/t/part-1.parquet", action="delete"),
    }
    files = {f"_spark_metadata/{name}": data for name, data in log.items()}
    for at, name in enumerate(("part-0", "part-1", "l=x/part-2", "part-failed")):
        files[f"{name}.parquet"] = write(tmp_path / "made" / f"{at}.parquet", 1, group=1, first=at).read_bytes()
    for name, data in files.items():
        path = tmp_path / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        s3_bucket.put(f"t/{name}", data)
    root = f"{tmp_path}/t" if where == "folder" else f"{s3_bucket.url}/t"
    source = open_source(make_job("parquet", root).source, rows=9)
    assert [span.files[0].name for span in source.spans()] == ["l=x/part-2.parquet", "part-0.parquet"]
    assert {(some.reason, some.files) for some in source.left_out.files()} >= {(NOT_COMMITTED, 2)}
    assert len(spans_of(make_job("parquet", f"{root}/part-*.parquet"))) == 1
    assert len(spans_of(make_job("parquet", f"{root}/part-failed.parquet"))) == 1  # asked for by name


def test_a_log_of_spark_that_is_not_understood_is_told(tmp_path: Path) -> None:
    write(tmp_path / "part-0.parquet", 1, group=1)
    (tmp_path / "_spark_metadata").mkdir()
    for text, words in (("v2\n", "has the format 'v2'; only v1 is supported"), ("v1\n{", "cannot be read"), ("v1\n[]", "cannot be read")):
        (tmp_path / "_spark_metadata" / "0").write_text(text)
        with pytest.raises(BadInput, match=f"_spark_metadata/0', the log of files that Spark committed, {words}"):
            spans_of(make_job("parquet", tmp_path))


def test_a_column_that_is_there_twice_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["text", "text"]), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"column 'text' is in .* 2 times"):
        spans_of(make_job("parquet", tmp_path))


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_an_unreadable_file_is_found_at_planning(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "a.parquet", 10, group=10)
    path = write(tmp_path / "b.parquet", 10, group=10)
    data = {"cut": path.read_bytes()[:-7], "empty": b"", "other": b"id,text\n1,2\n" * 10}[damage]
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"b\.parquet is not a readable Parquet file") as told:
        spans_of(make_job("parquet", tmp_path))
    assert "\n" not in str(told.value)


def test_damage_inside_a_row_group_names_file_and_group(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", 1_000, group=500)
    data = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(0).column(1).dictionary_page_offset
    data[page : page + 400] = b"\xff" * 400
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.parquet row group 0 is not a readable part of a Parquet file"):
        raw(make_job("parquet", path))


def test_a_source_with_no_row_is_told_and_an_empty_file_is_not(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 0, group=1)
    with pytest.raises(BadInput, match="has no rows"):
        spans_of(make_job("parquet", tmp_path))
    write(tmp_path / "b.parquet", 2, group=1)
    assert [span.files[0].name for span in spans_of(make_job("parquet", tmp_path))] == ["b.parquet"]


def test_a_sample_comes_from_the_head(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 100, group=10)
    source = open_source(make_job("parquet", tmp_path).source, rows=10)
    assert sample_texts(source, 3) == ["text 0", "text 1", "text 2"]


def test_a_sample_of_pictures_that_are_bytes_is_put_in_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"p": [b"one", None, b"two"]}), tmp_path / "a.parquet")
    source = open_source(make_job("parquet", tmp_path, image="p").source, rows=10)
    paths = sample_texts(source, 5, folder=tmp_path)
    assert [Path(path).read_bytes() for path in paths] == [b"one", b"two"]
    assert sample_texts(source, 5) == []


def test_the_footer_of_a_file_is_read_once_for_all_of_its_shards(tmp_path: Path) -> None:
    """With a shard for each of many row groups, reading it for each would cost their square."""
    write(tmp_path / "a.parquet", 40, group=1)
    before = footer_of.cache_info()
    assert len(raw(make_job("parquet", tmp_path, rows=1, id="id"))) == 40
    after = footer_of.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 39)
