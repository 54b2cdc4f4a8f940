"""`kitestring gc`: counts by default, removes when told, and touches nothing that is named or alive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import tasks.commands.garbage_collect
from flows.command_line import terminal
from flows.command_line.cli import app
from flows.command_line.terminal import count_shown
from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.condemned import condemn
from tasks.adapters.checkpoint.shard_keys import ShardKeys
from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.key_rules import TEMPORARY
from tasks.adapters.object_store.registry import open_store
from tasks.commands import unreferenced_objects
from tasks.domain.digest import digest
from tasks.domain.errors import Transient
from tasks.domain.job.target import MilvusSettings
from tasks.domain.shards.duplicates import Owners
from tasks.domain.shards.seal import Part
from tasks.domain.target.collection import collection_name, target_fingerprint
from tests.builders.checkpoints import IDENTITY, SHARD, TARGET, loaded, put_part, seal_of
from tests.builders.runs import age

OTHER = digest("another shard")
NOTHING = {
    "parts": 0,
    "bytes": 0,
    "deleted": False,
    "busy": False,
    "keys": 0,
    "unfinished": 0,
    "collections": [],
    "unseen": "",
    "unread": [],
    "failed": "",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(open_store(str(tmp_path / "store")), "pydocs", IDENTITY.fingerprint)


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
    assert gc(tmp_path) == NOTHING | {"parts": 1, "bytes": lost.bytes}
    assert keys(checkpoint) == before


def test_removing_leaves_what_a_seal_names(checkpoint: Checkpoint, tmp_path: Path) -> None:
    kept, lost = leave(checkpoint, tmp_path)
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    assert gc(tmp_path, "--delete")["deleted"] is True
    assert before - keys(checkpoint) == {lost.key}
    assert checkpoint.verified_part(kept).num_rows == 5


def test_what_rows_may_take_their_vectors_from_stays_and_its_digests(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Whether its file is still there or not: a seal names both, and no seal is ever removed."""
    named, left = (checkpoint.layout.digests(shard, "a") for shard in (SHARD, OTHER))
    for key in (named, left):
        checkpoint.store.write(key, b"digests")
    checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5)).model_copy(update={"digests": "0" * 64}))
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    assert gc(tmp_path, "--delete")["keys"] == 1
    assert before - keys(checkpoint) == {left}


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
    assert gc(tmp_path) == NOTHING


def test_keys_of_seals_and_owners_that_are_no_more_go(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A withdrawn seal's keys are named by no seal any more; the shard's new ones, and the owners in force, stay."""
    kept, _ = leave(checkpoint, tmp_path)
    seal = checkpoint.effective_seal(SHARD)
    assert seal
    assert ShardKeys(checkpoint, tmp_path).read(seal)
    checkpoint.replace_owners(TARGET, Owners(covers=OTHER, policy="first", settled=True), b"the table in force", None)
    withdrawn, replaced = checkpoint.layout.keys(SHARD, OTHER), checkpoint.layout.lost(TARGET, OTHER)
    for key in (withdrawn, replaced):
        checkpoint.store.write(key, b"of what is no more")
    assert gc(tmp_path, "--delete")["keys"] == 0  # of today
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    assert gc(tmp_path, "--delete")["keys"] == 2
    assert {withdrawn, replaced} <= before - keys(checkpoint)
    assert ShardKeys(checkpoint, tmp_path).read(seal)
    assert checkpoint.verified_part(kept).num_rows == 5
    assert gc(tmp_path) == NOTHING


def test_a_target_that_is_away_hinders_nothing_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    leave(checkpoint, tmp_path)
    seal, target = checkpoint.effective_seal(SHARD), MilvusSettings(uri=f"{tmp_path}/nowhere/rows.txt")
    assert seal
    checkpoint.record_load(target_fingerprint(target, collection_name(target.collection, IDENTITY.fingerprint)), loaded(seal))
    age(tmp_path / "store", 2)
    found = gc(tmp_path, "--delete", "--set", f"target.uri={target.uri}")
    assert found["parts"] == 1
    assert "is not a Milvus address" in str(found["unseen"])


def test_a_seal_that_cannot_be_read_keeps_its_parts_and_hinders_nothing_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    _, lost = leave(checkpoint, tmp_path)
    kept = put_part(checkpoint, tmp_path, 0, 5, attempt="killed", shard=OTHER)
    checkpoint.store.write(checkpoint.layout.seal(OTHER), b'{"shard":')
    age(tmp_path / "store", 2)
    before = keys(checkpoint)
    (unread,) = gc(tmp_path, "--delete")["unread"]  # type: ignore[misc]
    assert before - keys(checkpoint) == {lost.key}
    assert checkpoint.store.read(kept.key)
    assert checkpoint.layout.seal(OTHER) in unread


def test_a_run_that_came_since_the_listing_keeps_what_it_may_adopt(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_part(checkpoint, tmp_path, 0, 5, attempt="killed", shard=OTHER)
    age(tmp_path / "store", 2)
    meanwhile = tmp_path / "meanwhile"
    meanwhile.mkdir()

    def condemn_late(*arguments: Any) -> str:
        put_part(checkpoint, meanwhile, 5, 9, attempt="at work", shard=OTHER)
        return condemn(*arguments)

    monkeypatch.setattr(unreferenced_objects, "condemn", condemn_late)
    assert gc(tmp_path, "--delete")["parts"] == 0
    assert len(keys(checkpoint)) == 2


def test_what_is_gone_is_told_though_the_store_fails_in_the_middle(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in map(digest, "abc"):
        put_part(checkpoint, tmp_path, 0, 5, shard=shard)
    age(tmp_path / "store", 2)
    monkeypatch.setattr(unreferenced_objects, "BATCH", 1)
    monkeypatch.setattr(unreferenced_objects, "BATCHES", 1)
    calls: list[list[str]] = []

    def failing(store: FolderStore, wanted: list[str]) -> None:
        calls.append(wanted)
        if len(calls) > 1:
            raise Transient("the store is away")
        store.delete(wanted[0])

    monkeypatch.setattr(FolderStore, "delete_many", failing)
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({"corpus": "pydocs", "checkpoint": str(tmp_path / "store")}))
    done = CliRunner().invoke(app, ["gc", str(job), "--json", "--delete"])
    assert (done.exit_code, json.loads(done.stdout)["parts"]) == (1, 1)
    assert "the store is away; run it again" in done.stderr.replace("\n", " ")


def test_a_collection_that_is_dropped_is_told_though_the_next_one_cannot_be(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(checkpoint, tmp_path)

    def drop(_: object, name: str) -> bool:
        if name == "second":
            raise Transient("Milvus is away")
        return True

    for name, fake in {"find_abandoned": lambda *_: {"first": "a", "second": "b"}, "_still_silent": lambda *_: True, "drop": drop}.items():
        monkeypatch.setattr(tasks.commands.garbage_collect, name, fake)
    found = gc(tmp_path, "--delete")
    assert (found["collections"], found["unseen"]) == (["first"], "Milvus is away")


def test_a_collection_whose_encoder_a_run_came_back_to_is_not_dropped(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(checkpoint, tmp_path)
    age(tmp_path / "store", 2)
    name = collection_name(MilvusSettings().collection, IDENTITY.fingerprint)

    def abandoned(*_: object) -> dict[str, str]:
        checkpoint.store.write(checkpoint.layout.run("r", "report.json"), b"{}")
        return {name: IDENTITY.fingerprint}

    monkeypatch.setattr(tasks.commands.garbage_collect, "find_abandoned", abandoned)
    monkeypatch.setattr(tasks.commands.garbage_collect, "drop", lambda *_: True)
    assert gc(tmp_path, "--delete")["collections"] == []
    age(tmp_path / "store", 2)
    monkeypatch.setattr(tasks.commands.garbage_collect, "find_abandoned", lambda *_: {name: IDENTITY.fingerprint})
    assert gc(tmp_path, "--delete")["collections"] == [name]


def test_a_table_of_duplicates_that_gc_may_be_removing_is_never_named_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Settled to the same as once before: under another key."""
    owners = Owners(covers=OTHER, policy="first", settled=True)

    def settle(lost: bytes | None) -> str | None:
        before = checkpoint.read_owners(TARGET)
        checkpoint.replace_owners(TARGET, owners, lost, before)
        found = checkpoint.read_owners(TARGET)
        assert found
        return found.table

    first = settle(b"lost")
    assert settle(b"lost") == first  # it was named all the time
    assert settle(None) is None
    assert settle(b"lost") not in {first, None}


def test_progress_of_a_long_sweep_is_told_on_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with count_shown() as tell:
        tell("removed", 1_000, 20_000)  # what ends soon is not told of
        monkeypatch.setattr(terminal, "PLAIN_EVERY", 0.0)
        tell("listed", 3_000, None)
        tell("removed", 2_000, 20_000)
    assert capsys.readouterr().err == "listed: 3,000 objects\nremoved: 2,000 of 20,000 objects\n"
