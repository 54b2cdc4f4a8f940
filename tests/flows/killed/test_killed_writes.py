"""A run is killed between any two of its writes, the source changes, and another run makes everything right."""

from __future__ import annotations

import copy
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.targets.memory_collection import MemoryCollection, memory_servers
from tasks.adapters.targets.memory_target import MemoryTarget
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import write_rows
from tests.builders.memory_jobs import REPLAY, a_job, texts_in
from tests.builders.runs import ids

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]
STRIDE = int(os.environ.get("KILL_STRIDE", "17"))
WRITES = [(FolderStore, name) for name in ("write", "commit", "delete")]
WRITES += [(MemoryCollection, name) for name in ("upsert", "upsert_fields", "delete_shard", "delete_keys", "ensure")] + [
    (MemoryTarget, "point")
]


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def dying_at(number: int, log: list[str]) -> Iterator[None]:
    """The write of this number, and every later one, does not happen."""
    lock = threading.Lock()

    def wrap(kind: type, name: str) -> Any:
        real = getattr(kind, name)

        def write(self: Any, *given: Any, **named: Any) -> Any:
            key = str(given[0]) if kind is FolderStore else ""
            if "/live/" in key and len(log) > number:  # a thread of its own writes these, whenever it comes to it
                return None
            if "/part-" in key or "/live/" in key:
                return real(self, *given, **named)
            with lock:
                log.append(f"{name} {key}")
                if len(log) > number:
                    raise Killed
            return real(self, *given, **named)

        return patch.object(kind, name, write)

    patches = [wrap(kind, name) for kind, name in WRITES]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


def sweep(folder: Path, job: dict[str, Any], killed: Callable[[], Any], after: Callable[[str], None]) -> list[str]:
    """The writes of the run that nothing killed, the last one."""
    uri = job["target"]["uri"]
    kept = folder.parent / f"{folder.name}-kept"
    shutil.copytree(folder, kept, copy_function=shutil.copy2, symlinks=True)
    server = memory_servers[uri]
    state = copy.deepcopy((server.specs, server.identities, server.rows, server.aliases))
    number = int(os.environ.get("AUDIT_FIRST", "0"))
    while True:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, copy_function=shutil.copy2, symlinks=True)
        server.specs, server.identities, server.rows, server.aliases = copy.deepcopy(state)
        log: list[str] = []
        ended = False
        with dying_at(number, log):
            try:
                killed()
                ended = True
            except BaseException as error:
                if not isinstance(error, Killed) and "Killed" not in repr(error) and len(log) <= number:
                    raise
        after(f"kill at {number}: {log[number] if number < len(log) else 'the end'}")
        if ended or len(log) <= number:
            return log
        number += STRIDE


def standing(mode: str) -> Callable[..., dict[str, Any]]:
    def make(folder: Path, model: Path, **more: Any) -> dict[str, Any]:
        return a_job(folder, model, target__mode=mode, target__allow_shrink=True, **more)

    return make


def stocks_in(job: dict[str, Any]) -> dict[str, int]:
    server = memory_servers[job["target"]["uri"]]
    return {key: row["stock"] for key, row in server.rows[server.aliases["rows"]].items()}


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_edits(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, mode: str) -> None:
    folder = tmp_path / tmp_path.name
    rows = folder / "rows"
    for number, name in enumerate("abc"):
        write_rows(rows / f"{name}.parquet", number * 10, number * 10 + 10, stock=[1] * 10)
    job = standing(mode)(folder, tiny_model, source__metadata=["stock"])
    run_flow(job)

    def killed() -> None:
        write_rows(rows / "b.parquet", 10, 18, stock=[2] * 8)
        (rows / "c.parquet").unlink()
        write_rows(rows / "d.parquet", 25, 35, stock=[2] * 10)
        run_flow(job)

    def after(where: str) -> None:
        write_rows(rows / "a.parquet", 0, 7, stock=[3] * 7)
        (rows / "d.parquet").unlink()
        result = run_flow(job)
        assert result["verified"] is True, where
        keys = set(texts_in(job))
        wanted = set(ids(0, 7) + ids(10, 18))
        if mode == "append":
            wanted |= set(ids(20, 30))
            assert keys - wanted in (set(), set(ids(30, 35))), (where, sorted(keys - wanted))
            keys -= set(ids(30, 35))
        assert keys == wanted, (where, sorted(keys ^ wanted))
        assert stocks_in(job).items() >= (dict.fromkeys(ids(0, 7), 3) | dict.fromkeys(ids(10, 18), 2)).items(), where
        again = run_flow(job)
        assert (again["verified"], again["rows"]["removed"]) == (True, 0), (where, again["notes"])

    assert any(write.startswith("upsert_fields") for write in sweep(folder, job, killed, after))


@pytest.mark.parametrize("mode", ["mirror", "append"])
def test_moves(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, mode: str) -> None:
    folder = tmp_path / tmp_path.name
    for number, name in enumerate("abc"):
        write_rows(folder / "old" / f"{name}.parquet", number * 10, number * 10 + 10)
    make = standing(mode)
    run_flow(make(folder, tiny_model, source__uri=str(folder / "old")))
    new = folder / "new"
    job = make(folder, tiny_model, source__uri=str(new), source__moved_from=str(folder / "old"))

    def killed() -> None:
        (folder / "old").rename(new)
        write_rows(new / "b.parquet", 10, 18)
        run_flow(job)

    def after(where: str) -> None:
        write_rows(new / "a.parquet", 0, 7)
        result = run_flow(job)
        assert result["verified"] is True, where
        assert set(texts_in(job)) == set(ids(0, 7) + ids(10, 18) + ids(20, 30)), where
        bare = make(folder, tiny_model, source__uri=str(new))
        write_rows(new / "c.parquet", 20, 25)
        assert run_flow(bare)["rows"]["removed"] == 5, where
        assert set(texts_in(job)) == set(ids(0, 7) + ids(10, 18) + ids(20, 25)), where

    sweep(folder, job, killed, after)


def test_replays(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / tmp_path.name
    for number in range(3):
        rows = folder / f"rows-{number}"
        job = a_job(folder, tiny_model, source__uri=str(rows), source__text=["text", "day"])
        write_rows(rows / f"{number}.parquet", number * 5, number * 5 + 10, day=[f"day {number}"] * 10)
        run_flow(job)
    there = texts_in(job)
    again = a_job(folder, tiny_model, "-again", source__uri=str(rows), source__text=["text", "day"])

    def killed() -> None:
        run_flow(again, REPLAY)

    def after(where: str) -> None:
        assert run_flow(again, REPLAY)["verified"] is True, where
        assert texts_in(again) == there, where

    sweep(folder, again, killed, after)
