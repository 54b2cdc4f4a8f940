"""A sealed part that is no longer what was sealed: the seal is taken back, what is whole is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.domain.errors import Damaged
from tasks.domain.ports import Store
from tasks.domain.shards.seal import Part, Seal
from tests.builders.checkpoints import SHARD, TARGET, loaded, put_part, seal_of


def sealed(checkpoint: Checkpoint, folder: Path) -> tuple[Seal, Part, Part]:
    one, other = put_part(checkpoint, folder, 0, 5), put_part(checkpoint, folder, 5, 10)
    seal = checkpoint.seal(seal_of(one, other))
    checkpoint.record_load(TARGET, loaded(seal))
    return seal, one, other


def flip(store: Store, key: str) -> None:
    data = store.read(key)
    assert data
    store.write(key, data[:-1] + bytes([data[-1] ^ 1]))


def test_a_flipped_byte_is_found_and_only_that_part_goes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seal, one, other = sealed(checkpoint, tmp_path)
    flip(checkpoint.store, one.key)
    with pytest.raises(Damaged, match=one.key):
        checkpoint.verified_part(one)
    assert checkpoint.withdraw(seal, TARGET)
    assert checkpoint.read_seal(SHARD) is None
    assert [(entry.shard, entry.state) for entry in checkpoint.loads(TARGET)] == [(seal.shard, "doubted")]
    assert [part.key for part in checkpoint.adoptable(SHARD)] == [other.key]


def test_nothing_happens_where_the_parts_are_whole(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seal, _, _ = sealed(checkpoint, tmp_path)
    assert not checkpoint.withdraw(seal, TARGET)
    assert checkpoint.read_seal(SHARD) == seal


def test_what_another_run_has_sealed_meanwhile_stays(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seal, one, other = sealed(checkpoint, tmp_path)
    flip(checkpoint.store, one.key)
    checkpoint.withdraw(seal, TARGET)
    anew = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5, attempt="b"), other, run="b"))
    assert not checkpoint.withdraw(seal, TARGET)
    assert checkpoint.read_seal(SHARD) == anew


def test_parts_of_a_retry_are_never_taken_for_whole_ranges(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """They hold single rows of a range, and would be adopted as all of it."""
    seal, one, other = sealed(checkpoint, tmp_path)
    put_part(checkpoint, tmp_path, 0, 5, attempt="retry-r")
    flip(checkpoint.store, one.key)
    checkpoint.withdraw(seal, TARGET)
    assert [part.key for part in checkpoint.adoptable(SHARD)] == [other.key]
