"""`kitestring gc` drops collections that nobody goes back to, and none that anybody may."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient
from typer.testing import CliRunner

from flows.command_line.cli import app
from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.adapters.object_store.registry import open_store
from tasks.domain.digest import digest
from tasks.domain.job.parse import parse_job
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.domain.target.collection import collection_name, target_fingerprint
from tests.builders.collections import spec_of, stranger
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.models import make_tiny_model

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
Job = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [make_tiny_model(folder / f"model-{seed}", seed=seed) for seed in (31, 32, 33)]


@pytest.fixture(params=["lite", "server"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path, models: list[Path]) -> list[Job]:
    """The same corpus with each of the models."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 20)
    uri = str(tmp_path / "rows.db") if request.param == "lite" else request.getfixturevalue("milvus_server").uri
    name = f"gc_{uuid.uuid4().hex[:8]}"
    return [make_job(tmp_path, model, target__uri=uri, target__collection=name) for model in models]


def later(job: Job, days: float) -> None:
    """Everything in the checkpoint was written so long ago."""
    then = time.time() - days * 24 * 3600
    for path in Path(job["checkpoint"]).rglob("*"):
        os.utime(path, (then, then))


def collections(job: Job) -> list[str]:
    client = MilvusClient(job["target"]["uri"])
    try:
        return sorted(name for name in client.list_collections() if name.startswith(job["target"]["collection"]))
    finally:
        client.close()


def gc(job: Job, *more: str) -> list[str]:
    """The collections that it names."""
    path = Path(job["checkpoint"]).parent / "job.json"
    path.write_text(json.dumps(job))
    done = CliRunner().invoke(app, ["gc", str(path), "--json", *more])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["unseen"] == ""
    names: list[str] = found["collections"]
    return names


def test_a_model_that_was_never_promoted_leaves_nothing_behind_in_the_end(run_flow: RunFlow, jobs: list[Job]) -> None:
    tried, old, new = jobs
    run_flow(tried | {"target": tried["target"] | {"promote": "manual"}})
    (abandoned,) = collections(new)
    run_flow(old)
    run_flow(new)
    assert len(collections(new)) == 3

    assert gc(new, "--delete") == []  # of today: a run may be filling it
    later(new, 2)
    assert gc(new, "--set", "target.grace=72") == []
    assert gc(tried, "--delete") == []  # its own collection, which it may still promote
    assert gc(new) == [abandoned]
    assert len(collections(new)) == 3  # it was only counted
    assert gc(new, "--delete") == [abandoned]
    assert len(collections(new)) == 2  # what is live, and the one to roll back to
    assert gc(new, "--delete") == []


def test_what_somebody_else_made_or_filled_and_what_an_alias_leads_to_stays(jobs: list[Job]) -> None:
    """Each of the four is as a collection of ours that nobody goes back to, but for one thing."""
    job = jobs[0]
    target, store = parse_job(job).target, open_store(job["checkpoint"])
    theirs, elsewhere, led, unfilled = (digest(name) for name in ("theirs", "of another alias", "with an alias", "not from here"))
    for fingerprint in (theirs, elsewhere, led, unfilled):
        ledger = target_fingerprint(target, collection_name(target.collection, fingerprint))
        store.write(f"rows/{fingerprint}/{'runs' if fingerprint == unfilled else 'loads'}/{ledger}/s.json", b"{}")
    stranger(target.uri, collection_name(target.collection, theirs))
    for fingerprint in (elsewhere, led, unfilled):
        name = collection_name(target.collection, fingerprint)
        made = MilvusCollection(target.uri, name, alias=f"by_hand_{name}")
        made.ensure(spec_of(name, alias="another" if fingerprint == elsewhere else target.collection, fingerprint=fingerprint))
        if fingerprint == led:
            made.promote()
        made.close()
    later(job, 5)
    before = collections(job)
    assert len(before) == 4
    assert gc(job, "--delete") == []
    assert collections(job) == before


@pytest.mark.parametrize("older", [False, True])
def test_an_import_that_no_run_came_back_to_is_dropped_with_what_it_staged(jobs: list[Job], tmp_path: Path, older: bool) -> None:
    """An older version noted it in the ledger's folder."""
    job = jobs[0] | {"target": jobs[0]["target"] | {"staging": str(tmp_path / "staging")}}
    target, fingerprint = parse_job(job).target, digest("never came back")
    name = collection_name(target.collection, fingerprint)
    filled, noted = f"{name}_import_abc123", target_fingerprint(target, name)
    checkpoint = Checkpoint(open_store(job["checkpoint"]), "rows", fingerprint)
    key = checkpoint.layout.attempt(noted) if older else checkpoint.layout.importing(noted, "r1")
    write_document(checkpoint.store, key, ImportAttempt(run="r1", collection=filled, rows=0, covers=""))
    open_store(target.staging).write(f"{noted}/r1/000000.parquet", b"rows")
    made = MilvusCollection(target.uri, filled, alias=target.collection)
    made.ensure(spec_of(name, alias=target.collection, fingerprint=fingerprint))
    made.close()
    later(job, 2)
    assert gc(job, "--delete") == []  # a server may work for days on one
    later(job, 4)
    assert gc(job) == [filled]
    assert gc(job, "--delete") == [filled]
    assert collections(job) == []
    assert checkpoint.attempts(noted) == {}
    assert not list((tmp_path / "staging").rglob("*.parquet"))
