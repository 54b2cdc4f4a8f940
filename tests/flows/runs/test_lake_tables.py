"""A table of a lakehouse goes through a whole job: plan, encode, load, mirror what was deleted since, and encode nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from tests.builders.inprocess import RunFlow
from tests.builders.lake_tables import delete_by_position, delete_by_vector, iceberg_table
from tests.builders.runs import keys_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(300), pytest.mark.usefixtures("more_kinds")]


def rows(*ids: str) -> pa.Table:
    return pa.table({"id": list(ids), "text": [f"text {i}" for i in ids]})


def delta(folder: Path) -> tuple[Path, Callable[[], None]]:
    write_deltalake(folder / "t", rows("a", "b", "c"))
    write_deltalake(folder / "t", rows("d"), mode="append")

    def change() -> None:
        write_deltalake(folder / "t", rows("e", "f"), mode="append")
        delete_by_vector(folder / "t", [1])

    return folder / "t", change


def iceberg(folder: Path) -> tuple[Path, Callable[[], None]]:
    table = iceberg_table(folder, rows("a", "b", "c"))
    table.append(rows("d"))

    def change() -> None:
        before = {task.file.file_path for task in table.scan().plan_files()}
        table.append(rows("e", "f"))
        [added] = {task.file.file_path for task in table.scan().plan_files()} - before
        delete_by_position(table, {added: [1]})

    return folder / "db" / "t", change


@pytest.mark.parametrize("make", [delta, iceberg])
def test_a_table_is_mirrored_with_its_deletes(
    run_flow: RunFlow, tmp_path: Path, make: Callable[[Path], tuple[Path, Callable[[], None]]]
) -> None:
    table, change = make(tmp_path)
    document: dict[str, Any] = {
        "corpus": "lake",
        "source": {"kind": make.__name__, "uri": str(table), "id": "id"},
        "encoder": {"kind": "letters"},
        "checkpoint": str(tmp_path / "checkpoint"),
        "target": {"uri": str(tmp_path / "lake.db"), "collection": "lake", "mode": "mirror"},
    }
    first = run_flow(document)
    assert (first["rows"]["embedded"], first["verified"]) == (4, True)
    change()
    again = run_flow(document)
    assert (again["rows"]["embedded"], again["rows"]["reused"], again["verified"]) == (1, 4, True)
    assert sorted(keys_in(str(tmp_path / "lake.db"), "lake")) == ["a", "b", "c", "d", "e"]
