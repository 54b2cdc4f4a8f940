"""Server-side import, against the real Milvus 2.3.5: it reads files from its machine's disk. Attempts: test_attempts.py."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.adapters.milvus.milvus_bulk_loader import MilvusBulkLoader
from tasks.domain.errors import BadInput, Permanent
from tasks.stages import bulk_import
from tasks.stages.bulk_import import imports
from tasks.stages.verify import verify_plan
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import until
from tests.builders.temporary_files import swept_files
from tests.flows.imports.attempts import ODD, ROWS, Opened, left_behind, opening

pytestmark = pytest.mark.server


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


def test_two_imports_at_once_end_with_one_collection(sealed, target, monkeypatch):
    """Both have filled a collection of their own when the first takes the name."""
    both, rename = threading.Barrier(2, timeout=240), MilvusBulkLoader.rename

    def rename_at_once(self: MilvusBulkLoader, collection: str, to: str) -> None:
        both.wait()
        rename(self, collection, to)

    monkeypatch.setattr(MilvusBulkLoader, "rename", rename_at_once)
    with opening(sealed, target) as one, opening(sealed, target) as two, ThreadPoolExecutor(2) as threads:
        assert list(threads.map(Opened.load, (one, two))) == [True, True]
        for at in (one, two):
            assert (at.collection.count(), at.ledger, at.plan.checkpoint.attempts(at.plan.address)) == (ROWS, 3, {})
            assert verify_plan(at.plan, at.collection, full=True).proved
        runs = {entry.run for entry in one.plan.checkpoint.loads(one.plan.target)}
    assert len(runs) == 1  # the other has waited for its ledger, and upserted nothing
    assert left_behind(target) == []


def test_two_runs_that_import_at_once_are_both_proved_and_leave_nothing(kitestring, sealed, target):
    """As two people start them, and whatever they meet."""
    job = kitestring.job({**sealed, "target": target})
    runs = [kitestring.start("replay", job, "--json") for _ in range(2)]
    said = [run.communicate(timeout=280) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    for out, _ in said:
        assert (json.loads(out)["verified"], json.loads(out)["rows"]["loaded"]) == (True, ROWS)
    assert left_behind(target) == []
    assert not list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))


def test_a_killed_import_is_ended_by_the_next_run_at_once(kitestring, sealed, target):
    """kill -9: its machine knows that nobody is at work on it any more."""
    job = kitestring.job({**sealed, "target": target})
    run = kitestring.start("replay", job)
    until(lambda: list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json")), run)
    run.kill()
    run.communicate()
    assert left_behind(target) or list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))
    again = kitestring("replay", job, "--json")
    assert again.code == 0, again.err
    assert (again.json["verified"], again.json["rows"]["loaded"]) == (True, ROWS)
    assert left_behind(target) == []
    assert not list(Path(sealed["checkpoint"]).glob("rows/*/imports/*/*.json"))


def test_where_every_row_has_such_a_double_nothing_is_imported(target, tmp_path, tiny_model, run_flow):
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20, x=pa.nulls(20, pa.float64()))
    done = run_flow(make_job(tmp_path, tiny_model, source__metadata=["x"], target=target))
    assert (done["verified"], done["rows"]["loaded"]) == (True, 20)
    assert left_behind(target) == []


def test_an_import_that_is_given_up_does_not_hold_up_the_next(sealed, target, monkeypatch):
    """Its job still runs then, and 2.3.5 takes no other while it keeps one of a collection that is gone."""

    def gives_up(*_: object) -> None:
        raise Permanent("enough")

    with opening(sealed, target) as at:
        with monkeypatch.context() as patch:
            patch.setattr(bulk_import, "_await", gives_up)
            assert not at.load()
        begun = time.monotonic()
        assert at.load()
        assert time.monotonic() - begun < 300
    assert left_behind(target) == []


def test_a_file_that_the_server_cannot_read_is_dropped_for_upserts(sealed, target, monkeypatch, caplog):
    monkeypatch.setattr("tasks.adapters.milvus.staging.Staging._server_path", lambda _, key: f"/nowhere/{key}")
    with opening(sealed, target) as at:
        assert not at.load()
    assert "its rows are upserted instead" in caplog.text
    assert left_behind(target) == []


@pytest.mark.parametrize(
    ("changed", "told"), [({"staging": ""}, "target.staging"), ({"uri": "here.db", "staging": "s"}, "Milvus Lite has no import")]
)
def test_what_cannot_be_imported_is_said(sealed, target, changed, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opening(sealed, {**target, **changed}) as at, pytest.raises(BadInput, match=told):
        imports(at.plan, at.collection)
