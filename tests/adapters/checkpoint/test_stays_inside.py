"""What a store holds cannot lead out of its folder, whoever wrote it; and it is never taken for code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.checkpoint.part_files import read_part
from tasks.domain.digest import digest
from tasks.domain.errors import Permanent
from tasks.domain.shards.amendment import Amendment
from tasks.domain.shards.seal import Part, Seal
from tests.builders.checkpoints import SHARD, TARGET, put_part, seal_of

OTHER = digest("another shard")


def forge(checkpoint: Checkpoint, seal: Seal) -> None:
    """A seal as nobody but a stranger would write it."""
    write_document(checkpoint.store, checkpoint.layout.seal(SHARD), seal)


def strays(checkpoint: Checkpoint, part: Part) -> list[str]:
    name = part.key.rpartition("/")[2]
    folder = checkpoint.layout.shard(SHARD)
    return [
        f"{checkpoint.layout.shard(OTHER)}a/{name}",  # another shard's
        f"pydocs/{'f' * 32}/shards/{SHARD}/a/{name}",  # another encoder's
        f"{folder}../{OTHER}/a/{name}",
        f"{folder}../{name}",
        f"{folder}a/../../../{name}",
        f"/etc/{name}",
        f"{folder}{name}",
        f"{folder}a/other.parquet",
        "",
    ]


def test_a_seal_that_names_a_part_outside_of_its_folder_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    part = put_part(checkpoint, tmp_path, 0, 5)
    for key in strays(checkpoint, part):
        forge(checkpoint, seal_of(part.model_copy(update={"key": key})))
        for read in (checkpoint.read_seal, checkpoint.effective_seal):
            with pytest.raises(Permanent, match="names a part outside of it") as refused:
                read(SHARD)
            assert "\n" not in str(refused.value)


def test_a_seal_of_another_shard_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    forge(checkpoint, seal_of(put_part(checkpoint, tmp_path, 0, 5, shard=OTHER), shard=OTHER))
    with pytest.raises(Permanent, match="names"):
        checkpoint.read_seal(SHARD)


def test_an_amendment_is_held_to_it_as_well(checkpoint: Checkpoint, tmp_path: Path) -> None:
    part = put_part(checkpoint, tmp_path, 0, 5, aside=1)
    checkpoint.seal(seal_of(part))
    brought = put_part(checkpoint, tmp_path, 0, 1, attempt="b")
    told = {"run": "r", "recovered": (0,), "quarantined": (), "seconds": 1, "amended_at": "2026-11-21T00:00:00+00:00"}
    for key in strays(checkpoint, brought):
        amendment = Amendment(shard=SHARD, number=1, parts=(brought.model_copy(update={"key": key}),), **told)
        write_document(checkpoint.store, checkpoint.layout.amendment(SHARD, 1), amendment)
        with pytest.raises(Permanent, match="names a part outside of it"):
            checkpoint.effective_seal(SHARD)
    write_document(checkpoint.store, checkpoint.layout.amendment(SHARD, 1), amendment.model_copy(update={"parts": (brought,)}))
    seal = checkpoint.effective_seal(SHARD)
    assert seal is not None
    assert [p.key for p in seal.parts] == [part.key, brought.key]


def test_withdrawing_removes_nothing_outside_of_the_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    other = put_part(checkpoint, tmp_path, 0, 5, shard=OTHER)
    forged = seal_of(other.model_copy(update={"sha256": "0" * 64}))
    forge(checkpoint, forged)
    with pytest.raises(Permanent, match="names a part outside of it"):
        checkpoint.withdraw(forged, TARGET)
    assert checkpoint.store.read(other.key)


class Malice:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_a_pickle_in_the_store_is_damage(checkpoint: Checkpoint) -> None:
    evil = pickle.dumps(Malice())
    with pytest.raises(Permanent, match="not a Parquet file"):
        read_part(evil)
    for key, read in (
        (checkpoint.layout.seal(SHARD), lambda: checkpoint.read_seal(SHARD)),
        (checkpoint.layout.encoder, checkpoint.read_encoder),
        (checkpoint.layout.verified(TARGET), lambda: checkpoint.read_proof(TARGET)),
        (checkpoint.layout.loaded(TARGET, SHARD), lambda: list(checkpoint.loads(TARGET))),
    ):
        checkpoint.store.write(key, evil)
        with pytest.raises(Permanent, match="not JSON"):
            read()
