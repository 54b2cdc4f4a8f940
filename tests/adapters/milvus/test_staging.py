"""Staged files: what importers take, and what is left for upserts."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tasks.adapters.milvus.staging import Staging, staged_rows
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.rows.collection_rows import FieldTypes
from tasks.domain.errors import Permanent

COLUMNS: FieldTypes = {"id": "varchar", "x": "double", "xs": "double[]", "n": "int64"}
ROWS = pa.table(
    {
        "id": ["finite", "null", "nan", "plus", "minus", "in an array", "other null"],
        "x": [0.5, None, math.nan, math.inf, -math.inf, 1.5, -0.0],
        "xs": [[1.0], [], None, [2.0], [], [math.nan, math.inf], [3.0]],
        "n": [1, 2, 3, 4, 5, 6, None],
    }
)


@pytest.mark.parametrize(("nullable", "upserted"), [((), {"null", "nan", "plus", "minus"}), (("x", "xs", "n"), {"nan", "plus", "minus"})])
def test_rows_with_a_double_that_is_no_finite_number_are_kept_for_upserts(
    tmp_path: Path, nullable: tuple[str, ...], upserted: set[str]
) -> None:
    store = FolderStore(tmp_path / "store")
    with Staging(store, "a/run", tmp_path, columns=COLUMNS, nullable=nullable, whole_urls=False, file_bytes=1) as staging:
        for _ in range(2):
            staging.add(ROWS)
        files, (count, keys) = staging.files(), staging.upserts()
    imported = [key for file in files for key in pq.read_table(file)["id"].to_pylist()]
    kept = pa.concat_tables(staged_rows(store, keys))
    assert (len(files), len(keys), count) == (2, 2, 2 * len(upserted))
    assert set(kept["id"].to_pylist()) == upserted
    assert sorted(imported + kept["id"].to_pylist()) == sorted(ROWS["id"].to_pylist() * 2)
    assert kept.filter(pc.equal(kept["id"], "nan"))["xs"].null_count == 2  # as the part has it: upserting fits it to the server


def test_where_all_rows_are_taken_there_is_nothing_to_upsert(tmp_path: Path) -> None:
    with Staging(FolderStore(tmp_path / "store"), "a/run", tmp_path, columns=COLUMNS, nullable=(), whole_urls=False) as staging:
        staging.add(ROWS.slice(0, 1))
        assert (len(staging.files()), staging.upserts()) == (1, (0, []))


def test_a_staged_file_that_is_gone_or_damaged_is_said(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.write("torn", b"PAR1")
    for key in ("gone", "torn"):
        with pytest.raises(Permanent, match=f"{key}: the staged file is"):
            list(staged_rows(store, [key]))
