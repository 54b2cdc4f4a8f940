"""What a killed process may leave in a Milvus Lite file, and what several threads do to it."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.domain.errors import BadInput
from tests.builders.collections import part_of, spec_of


class Killed(BaseException):
    """As a kill: nothing after it is done."""


def folder_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "t.db" / "collections" / name


def fill(tmp_path: Path, *names: str) -> None:
    for name in names:
        made = MilvusTarget(str(tmp_path / "t.db")).collection(name)
        made.ensure(spec_of(name))
        made.upsert(part_of(["a"]))
        made.target.close()


def kill_while_made(tmp_path: Path) -> None:
    shutil.rmtree(folder_of(tmp_path, "half"))
    folder_of(tmp_path, "half").mkdir()
    (folder_of(tmp_path, "half") / "schema.json.tmp").touch()


def kill_while_dropped(tmp_path: Path) -> None:
    collection = MilvusTarget(str(tmp_path / "t.db")).collection("half")

    def drop(name: str, **_: object) -> None:
        (folder_of(tmp_path, name) / "schema.json").unlink()
        raise Killed

    collection._connection.client.drop_collection = drop
    with pytest.raises(Killed):
        collection.target.drop("half")
    collection.target.close()


@pytest.mark.parametrize("kill", [kill_while_made, kill_while_dropped])
def test_a_collection_that_was_left_half_made_or_half_dropped_is_made_anew(tmp_path: Path, kill: Callable[[Path], None]):
    """A folder without its schema: Milvus Lite would neither list it nor let its name be used."""
    fill(tmp_path, "half", "whole")
    kill(tmp_path)
    half = MilvusTarget(str(tmp_path / "t.db")).collection("half")
    assert half.describe() is None
    half.ensure(spec_of("half"))
    half.upsert(part_of(["b", "c"]))
    assert half.count() == 2
    assert half.target.drop("half")
    half.target.close()
    assert [path.name for path in (tmp_path / "t.db" / "collections").iterdir()] == ["whole"]

    whole = MilvusTarget(str(tmp_path / "t.db")).collection("whole")
    assert whole.count() == 1
    whole.target.close()


def test_dropping_again_clears_away_what_a_kill_left(tmp_path: Path):
    fill(tmp_path, "half")
    kill_while_dropped(tmp_path)
    half = MilvusTarget(str(tmp_path / "t.db")).collection("half")
    assert half.target.drop("half") is False
    half.target.close()
    assert list((tmp_path / "t.db" / "collections").iterdir()) == []


@pytest.mark.parametrize("database", ["", "databases/theirs"])
def test_of_others_not_even_what_looks_half_made_is_touched(tmp_path: Path, database: str):
    fill(tmp_path, "whole")
    theirs = tmp_path / "t.db" / database / "collections" / "theirs" / "data"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("rows")
    fill(tmp_path, "another")
    assert theirs.read_text() == "rows"


def test_what_nobody_is_known_to_have_left_half_made_stays_and_is_named(tmp_path: Path):
    """A schema that was lost otherwise, beside rows that are all there."""
    fill(tmp_path, "half")
    (folder_of(tmp_path, "half") / "schema.json").unlink()
    there = sorted(folder_of(tmp_path, "half").rglob("*"))
    half = MilvusTarget(str(tmp_path / "t.db")).collection("half")
    with pytest.raises(BadInput, match=r"collection 'half' has no schema\.json.*move it elsewhere"):
        half.ensure(spec_of("half"))
    assert half.target.drop("half") is False
    half.target.close()
    assert sorted(folder_of(tmp_path, "half").rglob("*")) == there


def test_of_upserts_that_come_together_a_kill_loses_none(tmp_path: Path):
    """What a kill leaves is the files as they are. Of two first writes at once, Milvus Lite would log one and acknowledge both."""
    collections = [MilvusTarget(str(tmp_path / "t.db")).collection(f"c{n}") for n in range(10)]
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
        collection.target.close()
    left = [MilvusTarget(str(tmp_path / "left.db")).collection(c.name) for c in collections]
    assert [collection.count() for collection in left] == [20] * len(left)
    for collection in left:
        collection.target.close()


def test_a_first_read_and_writes_of_another_thread_do_not_wait_for_each_other(tmp_path: Path):
    collection = MilvusTarget(str(tmp_path / "t.db"), batch_rows=1).collection("c")
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
    collection.target.close()
