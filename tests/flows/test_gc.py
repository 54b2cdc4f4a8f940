"""`kitestring gc`: counts by default, removes when told, and touches nothing that is named or alive."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from tasks.adapters.checkpoint import Checkpoint
from tasks.adapters.store_key import TEMPORARY
from tasks.adapters.stores import open_store
from tasks.domain.digest import digest
from tasks.domain.seal import Part
from tests.adapters.test_checkpoint import IDENTITY, SHARD, put_part, seal_of

OTHER = digest("another shard")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(open_store(str(tmp_path / "store")), "pydocs", IDENTITY.fingerprint)


def age(folder: Path, days: float) -> None:
    """Everything in the store was written so long ago."""
    then = time.time() - days * 24 * 3600
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def gc(folder: Path, *more: str) -> dict[str, object]:
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump({"corpus": "pydocs", "checkpoint": str(folder / "store")}))
    done = CliRunner().invoke(app, ["gc", str(job), "--json", *more])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def keys(checkpoint: Checkpoint) -> set[str]:
    return {stored.key for stored in checkpoint.store.list("")}


def leave(checkpoint: Checkpoint, folder: Path) -> tuple[Part, Part]:
    """A sealed part, and one of the run that lost the race for the same shard."""
    kept, lost = put_part(checkpoint, folder, 0, 5), put_part(checkpoint, folder, 0, 5, attempt="beaten")
    checkpoint.seal(seal_of(kept))
    return kept, lost


def test_it_only_counts_unless_it_is_told_to_remove(checkpoint: Checkpoint, tmp_path: Path) -> None:
    _, lost = leave(checkpoint, tmp_path)
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    assert gc(tmp_path) == {"parts": 1, "bytes": lost.bytes, "deleted": False, "busy": False, "unfinished": 0}
    assert keys(checkpoint) == before


def test_removing_leaves_what_a_seal_names(checkpoint: Checkpoint, tmp_path: Path) -> None:
    kept, lost = leave(checkpoint, tmp_path)
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    assert gc(tmp_path, "--delete")["deleted"] is True
    assert before - keys(checkpoint) == {lost.key}
    assert checkpoint.verified_part(kept).num_rows == 5


def test_a_run_of_today_keeps_its_parts_and_those_that_it_may_take_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    put_part(checkpoint, tmp_path, 0, 5, attempt="killed", shard=OTHER)
    age(tmp_path / "store", 2)
    put_part(checkpoint, tmp_path, 5, 9, attempt="at work", shard=OTHER)
    found = gc(tmp_path, "--delete")
    assert (found["parts"], found["busy"]) == (0, True)
    assert len(keys(checkpoint)) == 2


def test_what_a_killed_run_left_of_an_unsealed_shard_goes_when_nobody_came_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    put_part(checkpoint, tmp_path, 0, 5, attempt="killed", shard=OTHER)
    age(tmp_path / "store", 2)
    assert gc(tmp_path, "--delete")["parts"] == 1
    assert not keys(checkpoint)


def test_another_corpus_is_not_touched(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = Checkpoint(checkpoint.store, "pydocs2", IDENTITY.fingerprint)
    put_part(other, tmp_path, 0, 5, shard=SHARD)
    age(tmp_path / "store", 2)
    assert gc(tmp_path, "--delete")["parts"] == 0
    assert keys(checkpoint)


def test_what_a_killed_process_was_writing_goes_after_a_day(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A folder's private files are no keys, so that no listing shows them."""
    kept, _ = leave(checkpoint, tmp_path)
    folder = (tmp_path / "store" / kept.key).parent
    old, young = folder / f"{TEMPORARY}old", folder / f"{TEMPORARY}young"
    old.write_bytes(b"12345")
    age(tmp_path / "store", 2)
    young.write_bytes(b"at work")
    lost = gc(tmp_path)
    assert lost["unfinished"] == 1
    assert old.exists()
    assert gc(tmp_path, "--delete")["unfinished"] == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert checkpoint.verified_part(kept).num_rows == 5
    assert gc(tmp_path) == {"parts": 0, "bytes": 0, "deleted": False, "busy": False, "unfinished": 0}
