"""A Delta table is read as its log has it: what was deleted stays away, in every way in which writers delete."""

from __future__ import annotations

import datetime as dt
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput, Permanent
from tests.builders.lake_tables import change_log, delete_by_vector
from tests.builders.source_rows import make_job, raw, shard_of, spans_of
from tests.servers.s3 import S3Bucket


def rows(*ids: str, **more: Any) -> pa.Table:
    return pa.table({"id": list(ids), "text": [f"text {i}" for i in ids], **more})


def read(table: object, *metadata: str, **settings: Any) -> list[dict[str, Any]]:
    found = raw(make_job("delta", table, id="id", metadata=list(metadata), **settings))
    return sorted(({name: value for name, value in row.items() if name != "text"} for row in found), key=lambda row: row["id"])


def shards(table: object, **settings: Any) -> set[str]:
    return {shard_of(span).id for span in spans_of(make_job("delta", table, id="id", **settings))}


def test_rows_of_files_that_the_log_removed_are_not_there(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1", "2"))
    write_deltalake(tmp_path, rows("3", "4"), mode="append")
    DeltaTable(tmp_path).delete("id in ('3', '4')")
    assert [row["id"] for row in read(tmp_path)] == ["1", "2"]
    assert [row["id"] for row in read(tmp_path, version=1)] == ["1", "2", "3", "4"]


def test_rows_that_a_deletion_vector_marks_are_left_out_and_not_counted(tmp_path: Path) -> None:
    write_deltalake(
        tmp_path / "a t%", pa.table({"id": [str(i) for i in range(10)], "text": ["x"] * 10, "n": range(10)}), partition_by=["text"]
    )
    whole = shards(tmp_path / "a t%")
    delete_by_vector(tmp_path / "a t%", [0, 4, 9])
    assert [row["n"] for row in read(tmp_path / "a t%", "n")] == [1, 2, 3, 5, 6, 7, 8]
    [span] = spans_of(make_job("delta", tmp_path / "a t%"))
    assert span.rows == 7
    assert not whole & shards(tmp_path / "a t%")
    assert whole == shards(tmp_path / "a t%", version=0)


def test_rows_that_are_deleted_while_they_are_read_end_the_shard(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1", "2", "3"))
    delete_by_vector(tmp_path, [1])
    job = make_job("delta", tmp_path)
    [planned] = spans_of(job)
    DeltaTable(tmp_path).delete("id = '1'")
    with pytest.raises(Permanent, match="while it was being read: run again"):
        list(open_source(job.source, rows=9).read(shard_of(planned)))


def test_a_version_that_only_adds_files_leaves_the_shards_of_all_others_as_they_are(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1"))
    before = shards(tmp_path)
    write_deltalake(tmp_path, rows("2", n=[1]), mode="append", schema_mode="merge")
    assert before < shards(tmp_path)
    assert len(shards(tmp_path)) == 2


def test_a_column_that_was_added_later_is_null_in_older_files(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1"))
    write_deltalake(tmp_path, rows("2", n=[7]), mode="append", schema_mode="merge")
    assert [row["n"] for row in read(tmp_path, "n")] == [None, 7]
    assert open_source(make_job("delta", tmp_path, metadata=["n"]).source, rows=9).inspect()["n"] == "int64"


PARTITIONS = {
    "text": (["a/b c%", None], ["a/b c%", None]),
    "day": ([dt.date(2024, 2, 29), None],) * 2,
    "at": ([dt.datetime(2024, 2, 29, 1, 2, 3, 4, dt.UTC), None],) * 2,
    "price": ([Decimal("1.50"), Decimal("2.25")],) * 2,
    "flag": ([True, False],) * 2,
    "n": ([2**53 + 1, None],) * 2,
    "x": ([0.1, None],) * 2,
}


@pytest.mark.parametrize("kind", PARTITIONS)
def test_partition_columns_are_constants_of_their_files_with_their_types(tmp_path: Path, kind: str) -> None:
    written, wanted = PARTITIONS[kind]
    write_deltalake(tmp_path, rows("1", "2", part=written), partition_by=["part"])
    assert [row["part"] for row in read(tmp_path, "part")] == wanted


def test_mapped_columns_are_read_under_their_names(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"col-1": ["1", "2"], "col-2": ["a", "b"], "col-3": ["x", "y"]}), partition_by=["col-3"])
    names = {"col-1": "id", "col-2": "text", "col-3": "lang"}
    fields = [
        {
            "name": name,
            "type": "string",
            "nullable": True,
            "metadata": {"delta.columnMapping.id": at, "delta.columnMapping.physicalName": physical},
        }
        for at, (physical, name) in enumerate(names.items(), 1)
    ]
    changed: dict[str, Any] = {"schemaString": json.dumps({"type": "struct", "fields": fields}), "partitionColumns": ["lang"]}
    change_log(
        tmp_path,
        0,
        {
            "protocol": {"minReaderVersion": 2, "minWriterVersion": 5},
            "metaData": {**changed, "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"}},
        },
    )
    assert read(tmp_path, "lang") == [{"id": "1", "lang": "x"}, {"id": "2", "lang": "y"}]
    change_log(tmp_path, 0, {"metaData": {"configuration": {"delta.columnMapping.mode": "id", "delta.columnMapping.maxColumnId": "3"}}})
    with pytest.raises(BadInput, match=r"maps columns by id \(delta\.columnMapping\.mode\), which is not supported"):
        read(tmp_path)


def test_a_table_feature_that_is_not_known_is_refused_by_its_name(tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1"))
    features = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fancyRows"], "writerFeatures": ["fancyRows"]}
    change_log(tmp_path, 0, {"protocol": features})
    with pytest.raises(BadInput, match="fancyRows"):
        read(tmp_path)


def test_what_is_no_table_and_versions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no Delta table in"):
        read(tmp_path / "nowhere")
    write_deltalake(tmp_path, rows("1"))
    with pytest.raises(BadInput, match=r"cannot be read: .*9"):
        read(tmp_path, version=9)
    with pytest.raises(BadInput, match=r"column 'lang' is not in .*: it has id, text"):
        open_source(make_job("delta", tmp_path, metadata=["lang"]).source, rows=9).inspect(["lang"])
    next(tmp_path.glob("*.parquet")).unlink()
    with pytest.raises(BadInput, match="is missing, and the table's snapshot needs it"):
        read(tmp_path)


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deltalake", None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[lake\]'"):
        open_source(make_job("delta", tmp_path).source, rows=9).inspect()


def test_a_table_in_a_store_is_read_with_the_credentials_of_every_other_source(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    write_deltalake(tmp_path, rows("1", "2", lang=["a b", "c"]), partition_by=["lang"])
    client = s3_bucket.server.client()
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        client.upload_file(str(path), s3_bucket.name, f"lake/t/{path.relative_to(tmp_path)}")
    assert read(f"{s3_bucket.url}/lake/t/", "lang") == [{"id": "1", "lang": "a b"}, {"id": "2", "lang": "c"}]
    with pytest.raises(BadInput, match="Delta table"):
        raw(make_job("parquet", f"{s3_bucket.url}/lake"))
    with pytest.raises(BadInput, match="Delta table"):
        open_source(make_job("parquet", f"{s3_bucket.url}/lake/t/lang=c").source, rows=9).inspect()
