"""An Iceberg table is read as its snapshot has it: by its columns' ids, without the rows that were deleted."""

from __future__ import annotations

import datetime as dt
import shutil
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, StringType

from tasks.adapters.sources.lake.position_deletes import deleted_rows
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tests.builders.lake_tables import delete_by_position, iceberg_table, puffin_of
from tests.builders.source_rows import make_job, raw, shard_of, spans_of
from tests.servers.s3 import S3Bucket


def rows(*ids: str, **more: Any) -> pa.Table:
    return pa.table({"id": list(ids), "text": [f"text {i}" for i in ids], **more})


def read(table: object, *metadata: str, **settings: Any) -> list[dict[str, Any]]:
    found = raw(make_job("iceberg", table, id="id", text="id", metadata=list(metadata), **settings))
    return sorted(found, key=lambda row: row["id"])


def shards(table: object, **settings: Any) -> set[str]:
    return {shard_of(span).id for span in spans_of(make_job("iceberg", table, id="id", **settings))}


def files_of(table: Table) -> list[str]:
    return [task.file.file_path for task in table.scan().plan_files()]


def test_rows_of_files_that_were_replaced_are_not_there(tmp_path: Path) -> None:
    table = iceberg_table(tmp_path, rows("1", "2"))
    table.append(rows("3", "4"))
    before = table.current_snapshot()
    assert before
    table.delete(EqualTo("id", "3"))
    assert [row["id"] for row in read(tmp_path / "db" / "t")] == ["1", "2", "4"]
    assert [row["id"] for row in read(tmp_path / "db" / "t", snapshot=before.snapshot_id)] == ["1", "2", "3", "4"]
    table.manage_snapshots().create_tag(before.snapshot_id, "before").commit()
    assert len(read(tmp_path / "db" / "t", snapshot="before")) == 4
    with pytest.raises(BadInput, match="has no snapshot 'after': it has "):
        read(tmp_path / "db" / "t", snapshot="after")


def test_rows_that_are_deleted_by_position_are_left_out_and_other_files_keep_their_shards(tmp_path: Path) -> None:
    table = iceberg_table(tmp_path, rows("1", "2", "3"))
    table.append(rows("4", "5"))
    before = shards(tmp_path / "db" / "t")
    last, first = sorted(files_of(table), key=lambda path: pq.read_metadata(path.removeprefix("file://")).num_rows)
    delete_by_position(table, {first: [0, 2]})
    assert [row["id"] for row in read(tmp_path / "db" / "t")] == ["2", "4", "5"]
    assert sum(span.rows or 0 for span in spans_of(make_job("iceberg", tmp_path / "db" / "t"))) == 3
    assert len(before & shards(tmp_path / "db" / "t")) == 1
    delete_by_position(table, {last: [0, 1]})
    assert [row["id"] for row in read(tmp_path / "db" / "t")] == ["2"]


def test_a_deletion_vector_is_read(tmp_path: Path) -> None:
    class Deletes:
        file_path, file_format = str(tmp_path / "dv.puffin"), type("Format", (), {"value": "PUFFIN"})

    (tmp_path / "dv.puffin").write_bytes(puffin_of("s3://b/a.parquet", [1, 5, 2**33]))
    assert deleted_rows("s3://b/a.parquet", [Deletes]).tolist() == [1, 5, 2**33]  # type: ignore[list-item]
    assert deleted_rows("s3://b/b.parquet", [Deletes]).tolist() == []  # type: ignore[list-item]


def test_equality_deletes_are_refused_by_name(tmp_path: Path) -> None:
    table = iceberg_table(tmp_path, rows("1"))
    delete_by_position(table, {files_of(table)[0]: [0]}, DataFileContent.EQUALITY_DELETES)
    with pytest.raises(BadInput, match="has equality deletes, which are not supported: compact it"):
        read(tmp_path / "db" / "t")


def test_columns_are_found_by_their_ids_and_widened_and_those_added_later_are_null(tmp_path: Path) -> None:
    table = iceberg_table(tmp_path, rows("1", n=pa.array([1], pa.int32())))
    before = shards(tmp_path / "db" / "t")
    with table.update_schema() as change:
        change.update_column("n", LongType())
        change.rename_column("n", "number")
    with table.update_schema() as change:
        change.add_column("lang", StringType())
        change.add_column("n", StringType())
    table.append(rows("2", number=[2**40], lang=["de"], n=["x"]))
    assert read(tmp_path / "db" / "t", "number", "lang", "n") == [
        {"id": "1", "number": 1, "lang": None, "n": None},
        {"id": "2", "number": 2**40, "lang": "de", "n": "x"},
    ]
    assert before < shards(tmp_path / "db" / "t")


PARTITIONS = {
    "text": ["a/b", None],
    "day": [dt.date(2024, 2, 29), None],
    "at": [dt.datetime(2024, 2, 29, 1, 2, 3, 4), None],  # noqa: DTZ001 - a column without a zone
    "price": [Decimal("1.50"), Decimal("-2.25")],
    "flag": [True, False],
    "n": [2**53 + 1, None],
}


@pytest.mark.parametrize("kind", PARTITIONS)
def test_partition_columns_keep_their_values(tmp_path: Path, kind: str) -> None:
    table = iceberg_table(tmp_path, rows("0", part=PARTITIONS[kind][:1]))
    with table.update_spec() as change:
        change.add_field("part", IdentityTransform(), "part")
    table.append(rows("1", "2", part=PARTITIONS[kind]))
    assert [row["part"] for row in read(tmp_path / "db" / "t", "part")] == [PARTITIONS[kind][0], *PARTITIONS[kind]]


def test_the_metadata_is_the_hinted_the_named_or_the_newest_one_and_never_one_of_two(tmp_path: Path) -> None:
    table = iceberg_table(tmp_path, rows("1"))
    older = table.metadata_location.removeprefix("file://")
    table.append(rows("2"))
    folder = tmp_path / "db" / "t" / "metadata"
    assert len(read(tmp_path / "db" / "t")) == 2
    assert len(read(older)) == 1
    shutil.copy(older, folder / "00002-other.metadata.json")
    with pytest.raises(BadInput, match=r"has two newest metadata files, .*: set source\.catalog, or name one"):
        read(tmp_path / "db" / "t")
    (folder / "version-hint.text").write_text(Path(older).name.removesuffix(".metadata.json"))
    assert len(read(tmp_path / "db" / "t")) == 1
    with pytest.raises(BadInput, match=r"no such file or folder: .*/db/metadata"):
        read(tmp_path / "db")


def test_a_catalog_knows_the_newest_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    iceberg_table(tmp_path, rows("1"))
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__URI", f"sqlite:///{tmp_path}/catalog.db")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", __import__("pyiceberg.utils.config", fromlist=["Config"]).Config())
    assert [row["id"] for row in read("db.t", catalog="lake")] == ["1"]
    source = open_source(make_job("iceberg", "db.t", catalog="lake").source, rows=9)
    assert source.root == {span.files[0].root for span in source.spans()}.pop() == f"{tmp_path}/db/t"  # what rows name by path is below it
    with pytest.raises(BadInput, match=r"'db\.u' cannot be read: Table does not exist"):
        read("db.u", catalog="lake")


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.table", None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[lake\]'"):
        open_source(make_job("iceberg", tmp_path).source, rows=9).inspect()


def test_a_table_in_a_store_is_read_with_the_credentials_of_every_other_source(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    found = {"s3.endpoint": s3_bucket.server.url, "s3.access-key-id": "test", "s3.secret-access-key": "test", "s3.region": "us-east-1"}
    table = iceberg_table(tmp_path, rows("1"), location=f"{s3_bucket.url}/lake/t", **found)
    table.append(rows("2"))
    assert [row["id"] for row in read(f"{s3_bucket.url}/lake/t")] == ["1", "2"]
    with pytest.raises(BadInput, match="Iceberg table"):
        open_source(make_job("parquet", f"{s3_bucket.url}/lake/t/data").source, rows=9).inspect()
