"""What a killed process may leave in a Milvus Lite file, and what several threads do to it."""

from __future__ import annotations

import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.milvus import MilvusCollection
from tests.adapters.test_collection import part_of, spec_of


@pytest.mark.parametrize("left", ["schema.json.tmp", "partitions/data"], ids=["making", "dropping"])
def test_a_collection_that_was_left_half_made_or_half_dropped_is_made_anew(tmp_path: Path, left: str):
    """A folder without its schema: Milvus Lite would neither list it nor let its name be used."""
    for name in ("half", "whole"):
        made = MilvusCollection(str(tmp_path / "t.db"), name, alias=f"{name}_alias")
        made.ensure(spec_of(name))
        made.upsert(part_of(["a"]))
        made.close()
    (folder,) = tmp_path.glob("t.db/**/collections/half")
    (folder / "schema.json").unlink()
    (folder / left).parent.mkdir(exist_ok=True)
    (folder / left).touch()

    half = MilvusCollection(str(tmp_path / "t.db"), "half", alias="half_alias")
    assert half.describe() is None
    half.ensure(spec_of("half"))
    half.upsert(part_of(["b", "c"]))
    assert half.count() == 2
    half.close()

    whole = MilvusCollection(str(tmp_path / "t.db"), "whole", alias="whole_alias")
    assert whole.count() == 1
    whole.close()


def test_of_upserts_that_come_together_a_kill_loses_none(tmp_path: Path):
    """What a kill leaves is the files as they are. Of two first writes at once, Milvus Lite would log one and acknowledge both."""
    collections = [MilvusCollection(str(tmp_path / "t.db"), f"c{n}", alias=f"c{n}_alias") for n in range(10)]
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads that change often make it likely
    try:
        for collection in collections:
            collection.ensure(spec_of(collection.name))
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(collection.upsert, [part_of([f"{part}-{row}" for row in range(5)]) for part in range(4)]))
    finally:
        sys.setswitchinterval(often)
    shutil.copytree(tmp_path / "t.db", tmp_path / "left.db")
    for collection in collections:
        collection.close()
    left = [MilvusCollection(str(tmp_path / "left.db"), c.name, alias=f"{c.name}_alias") for c in collections]
    assert [collection.count() for collection in left] == [20] * len(left)
    for collection in left:
        collection.close()


def test_a_first_read_and_writes_of_another_thread_do_not_wait_for_each_other(tmp_path: Path):
    collection = MilvusCollection(str(tmp_path / "t.db"), "c", alias="a", batch_rows=1)
    collection.ensure(spec_of("c"))
    rows = part_of([str(row) for row in range(300)])
    writer = threading.Thread(target=collection.upsert, args=[rows], daemon=True)
    reader = threading.Thread(target=collection.count, daemon=True)  # indexes and loads it first
    writer.start()
    reader.start()
    for thread in (writer, reader):
        thread.join(60)
        assert not thread.is_alive()
    assert collection.count() == 300
    collection.close()
