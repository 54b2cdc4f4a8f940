"""Server-side import, against the real Milvus 2.3.5: it reads files from its machine's disk."""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pymilvus import MilvusClient

import tasks.run
from tasks import bulk
from tasks.adapters.milvus_bulk import BulkCollection
from tasks.adapters.ranks import Ranks
from tasks.bulk import import_shards, imports
from tasks.domain.errors import BadInput, OutcomeUnknown, Permanent, RunFailed
from tasks.domain.job import Job
from tasks.domain.ports import Collection
from tasks.load import opened
from tasks.plan import Plan, plan_sealed
from tasks.run import Run, open_run
from tasks.verify import verify_plan
from tests.flows.inprocess import flows_in_process
from tests.flows.kitestring import make_job, workers_of, write_rows
from tests.flows.test_scratch import swept_files
from tests.servers.milvus import MilvusProcess
from tests.servers.prefect import PrefectServer

ROWS = 90
ODD = {7: None, 10: math.nan}  # doubles that Milvus' importer refuses, by row of a shard; infinity is set aside before
pytestmark = pytest.mark.server


class Killed(BaseException):
    """What no `except` catches on the way: the process is gone."""


@dataclass(frozen=True, slots=True)
class Opened:
    run: Run
    plan: Plan
    collection: Collection

    def load(self) -> bool:
        """Import as a flow does; whether the collection was there afterwards."""
        if imports(self.plan, self.collection):
            import_shards.fn(self.run, self.plan, self.collection)
        return self.collection.describe() is not None

    @property
    def ledger(self) -> int:
        return len(list(self.plan.checkpoint.loads(self.plan.target)))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: PrefectServer) -> dict[str, Any]:
    """A job whose three shards are sealed, with what is hard to import among their metadata."""
    folder = tmp_path_factory.mktemp("sealed")
    for first in (0, 30, 60):
        odd = {
            "n": pa.array([None if row % 7 == 0 else row for row in range(30)], pa.int64()),
            "say": pa.array([None if row == 3 else 'quo"te\n日本\\' for row in range(30)], pa.string()),
            "text": pa.array(["a kite " * (10_000 if row == 4 else 1) + str(first + row) for row in range(30)], pa.string()),
            "tags": pa.array([["a", "b"], None, []] * 10, pa.list_(pa.string())),
            "x": pa.array([ODD.get(row, row / 4) for row in range(30)], pa.float64()),
            "xs": pa.array([None if row == 6 else [math.nan, 0.5] for row in range(30)], pa.list_(pa.float64())),
        }
        write_rows(folder / "rows" / f"{first}.parquet", first, first + 30, **odd)
    document = make_job(folder, tiny_model, shards__rows=30, source__metadata=["n", "say", "tags", "x", "xs"])
    with flows_in_process(prefect_server) as run:
        run(document)
    return document


@pytest.fixture
def target(milvus_server: MilvusProcess, tmp_path: Path) -> dict[str, Any]:
    name = f"import_{uuid.uuid4().hex[:8]}"
    return {"uri": milvus_server.uri, "collection": name, "load": "import", "staging": str(tmp_path / "staging")}


@contextmanager
def opening(document: dict[str, Any], target: dict[str, Any]) -> Iterator[Opened]:
    with open_run(Job.model_validate({**document, "target": target})) as run:
        plan = plan_sealed.fn(run)
        with opened(plan) as collection:
            yield Opened(run, plan, collection)


def left_behind(target: dict[str, Any]) -> list[str]:
    """Collections of attempts, and staged files."""
    client = MilvusClient(target["uri"])
    try:
        names = [name for name in client.list_collections() if name.startswith(target["collection"]) and "_import_" in name]
    finally:
        client.close()
    return names + [str(path) for path in Path(target["staging"]).rglob("*.parquet")]


def test_a_fresh_collection_is_imported_proved_and_nothing_is_left_behind(sealed, target):
    with opening(sealed, target) as at:
        with swept_files() as kinds:
            assert at.load()
        assert {"staging", "keys"} <= kinds
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert verify_plan(at.plan, at.collection).proved
        assert sum(entry.cut for entry in at.plan.checkpoint.loads(at.plan.target)) == 3  # one long text in each shard
        hit = at.collection.search(at.collection.fetch(["row-3"])[1], 1, fields=["n", "say", "tags"])[0][0]
        assert (hit.id, hit.fields["n"], hit.fields["tags"]) == ("row-3", 3, ["a", "b"])
        assert not imports(at.plan, at.collection)  # it is not fresh any more
    assert left_behind(target) == []


def test_doubles_that_the_server_refuses_are_upserted_into_the_imported_collection(sealed, target):
    """Null, for which NaN stands; the other rows are imported."""
    with opening(sealed, target) as at:
        assert at.load()
        assert at.collection.count() == ROWS
        assert verify_plan(at.plan, at.collection, full=True).proved
        keys = [f"row-{first + row}" for first in (0, 30, 60) for row in (*ODD, 11)]
        found = {hit.id: hit.fields["x"] for key in keys for hit in at.collection.search(at.collection.fetch([key])[1], 1, fields=["x"])[0]}
    assert found == {f"row-{first + row}": x for first in (0, 30, 60) for row, x in ({**ODD, 10: None, 11: 11 / 4}).items()}
    assert left_behind(target) == []


def test_where_every_row_has_such_a_double_nothing_is_imported(target, tmp_path, tiny_model, run_flow):
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20, x=pa.nulls(20, pa.float64()))
    done = run_flow(make_job(tmp_path, tiny_model, source__metadata=["x"], target=target))
    assert (done["verified"], done["rows"]["loaded"]) == (True, 20)
    assert left_behind(target) == []


@pytest.mark.parametrize("moment", ["importer", "_await", "await_rows", "rename", "_enter"])
def test_whatever_moment_it_is_killed_at_the_next_run_has_every_row_once(sealed, target, monkeypatch, moment):
    def dies(*_: object, **__: object) -> None:
        raise Killed

    with opening(sealed, target) as at, monkeypatch.context() as patch:
        patch.setattr(BulkCollection if hasattr(BulkCollection, moment) else bulk, moment, dies)
        with pytest.raises(Killed):
            import_shards.fn(at.run, at.plan, at.collection)
    with opening(sealed, target) as at:
        assert at.load()
        assert (at.collection.count(), at.ledger) == (ROWS, 3)
        assert verify_plan(at.plan, at.collection).proved
    assert left_behind(target) == []


def test_a_start_with_an_unknown_outcome_is_dropped_for_upserts(sealed, target, monkeypatch, caplog):
    class Unsure:
        def start(self, *_: object, **__: object) -> list[str]:
            raise OutcomeUnknown("no answer")

    monkeypatch.setattr(BulkCollection, "importer", lambda _: Unsure())
    with opening(sealed, target) as at:
        assert not at.load()  # upserting begins
        assert at.plan.checkpoint.read_attempt(at.plan.target) is None
    assert "no answer; its rows are upserted instead" in caplog.text
    assert left_behind(target) == []


def test_a_file_that_the_server_cannot_read_is_dropped_for_upserts(sealed, target, monkeypatch, caplog):
    monkeypatch.setattr("tasks.adapters.staging.Staging._as_the_server_has_it", lambda _, key: f"/nowhere/{key}")
    with opening(sealed, target) as at:
        assert not at.load()
    assert "its rows are upserted instead" in caplog.text
    assert left_behind(target) == []


def test_a_key_in_two_shards_is_not_imported(sealed, target, tmp_path, tiny_model, run_flow, caplog):
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", 0, 10)
    document = make_job(tmp_path, tiny_model, shards__rows=10)
    with contextlib.suppress(RunFailed):
        run_flow(document)
    with opening(document, target) as at:
        assert not at.load()
    assert "is in another shard, too" in caplog.text


def test_no_rank_lives_while_the_server_imports(target, tmp_path, tiny_model, run_flow, monkeypatch):
    """The ranks are real ones: their device is free for whoever waits for it."""
    monkeypatch.setattr(tasks.run, "Ranks", Ranks)
    before = {process.pid for process in workers_of(os.getpid())}  # the session's servers have guards as well
    alive: list[set[int]] = []

    def polled(*_: object) -> None:
        alive.append({process.pid for process in workers_of(os.getpid())} - before)
        raise Permanent("far enough")

    monkeypatch.setattr(bulk, "_await", polled)
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    done = run_flow(make_job(tmp_path, tiny_model, compute__processes=1, target=target))
    assert alive == [set()]
    assert (done["verified"], done["rows"]["embedded"]) == (True, 20)


@pytest.mark.parametrize(
    ("changed", "told"), [({"staging": ""}, "target.staging"), ({"uri": "here.db", "staging": "s"}, "Milvus Lite has no import")]
)
def test_what_cannot_be_imported_is_said(sealed, target, changed, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opening(sealed, {**target, **changed}) as at, pytest.raises(BadInput, match=told):
        imports(at.plan, at.collection)
