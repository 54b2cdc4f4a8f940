"""Folders of lakehouse tables are known, wherever a source of plain Parquet files meets them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.files.table_marks import table_of
from tasks.adapters.sources.registry import open_source
from tasks.domain.errors import BadInput
from tests.builders.source_rows import make_job, raw


def write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"]}), path)


LOGS = {
    "_delta_log/00000000000000000000.json": "Delta table, .*: set source.kind: delta",
    "metadata/v1.metadata.json": "Iceberg table, .*: set source.kind: iceberg",
    ".hoodie/hoodie.properties": "Hudi table, .*: export its current rows",
}


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("place", ["t", "t/data", "t/data/a.parquet", "t/data/*.parquet", "t/d*/a.parquet", ".", "*/data", "**/*.parquet"])
def test_a_table_is_refused_by_its_folder_its_parts_and_what_it_lies_in(tmp_path: Path, log: str, place: str) -> None:
    write(tmp_path / "t" / "data" / "a.parquet")
    (tmp_path / "t" / log).parent.mkdir()
    (tmp_path / "t" / log).write_text("{}")
    source = open_source(make_job("parquet", tmp_path / place).source, rows=9)
    with pytest.raises(BadInput, match=LOGS[log]):
        list(source.inspect() and source.spans())


def test_a_table_that_is_not_asked_for_and_folders_that_are_no_table_are_not_refused(tmp_path: Path) -> None:
    write(tmp_path / "a" / "metadata" / "a.parquet")
    write(tmp_path / "b" / "a.parquet")
    (tmp_path / "b" / "_delta_log").mkdir()
    (tmp_path / "b" / "_delta_log" / f"{0:020}.json").touch()
    assert len(raw(make_job("parquet", tmp_path / "a"))) == 1
    assert len(raw(make_job("parquet", f"{tmp_path}/a*/**"))) == 1


def test_the_folder_of_a_table_is_named() -> None:
    found = [
        table_of(name) for name in ("_delta_log", "x/y/_delta_log/_last_checkpoint", "x/metadata/00001-u.metadata.json", "x/my_delta_log/a")
    ]
    assert [each and each[0] for each in found] == ["", "x/y", "x", None]
