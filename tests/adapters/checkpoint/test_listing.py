"""One listing tells what is sealed, and whether anything about the seals has changed since the last one."""

from __future__ import annotations

from pathlib import Path

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.domain.digest import digest
from tests.builders.checkpoints import SHARD, TARGET, loaded, nothing_recovered, put_part, seal_of


def test_the_mark_changes_with_the_seals_and_with_nothing_else(checkpoint: Checkpoint, tmp_path: Path) -> None:
    marks = [checkpoint.survey().mark]
    part = put_part(checkpoint, tmp_path, 0, 5, aside=1)
    assert checkpoint.survey().mark == marks[0]
    seal = checkpoint.seal(seal_of(part))
    marks.append(checkpoint.survey().mark)
    checkpoint.record_load(TARGET, loaded(seal))
    put_part(checkpoint, tmp_path, 0, 2, shard=digest("other"))
    assert checkpoint.survey().mark == marks[1]
    checkpoint.amend(nothing_recovered(SHARD))
    marks.append(checkpoint.survey().mark)
    other = digest("other")
    checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 2, shard=other), shard=other))
    marks.append(checkpoint.survey().mark)
    assert len(set(marks)) == 4


def test_a_seal_that_took_anothers_place_is_another(quick: Checkpoint, tmp_path: Path) -> None:
    part = put_part(quick, tmp_path, 0, 5)
    quick.seal(seal_of(part))
    before = quick.survey()
    quick.store.delete(part.key)
    assert quick.withdraw(seal_of(part), TARGET)
    assert quick.survey().mark != before.mark
    quick.seal(seal_of(put_part(quick, tmp_path, 0, 5), run="another run"))
    after = quick.survey()
    assert list(after.sealed) == list(before.sealed) == [SHARD]
    assert after.mark != before.mark


def test_many_entries_of_the_ledger_are_written_and_taken_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    part = put_part(checkpoint, tmp_path, 0, 2)
    entries = [loaded(seal_of(part, shard=digest(n))) for n in range(20)]
    assert list(checkpoint.record_loads(TARGET, entries)) == entries
    known = {entry.shard for entry in entries[:15]}
    assert sorted(entry.shard for entry in checkpoint.loads(TARGET, but=known)) == sorted(entry.shard for entry in entries[15:])
    for shard in known:
        checkpoint.forget_load(TARGET, shard)
    assert sorted(checkpoint.loaded_ids(TARGET)) == sorted(entry.shard for entry in entries[15:])


def test_a_shard_that_is_distrusted_is_no_longer_loaded_and_is_not_forgotten(checkpoint: Checkpoint, tmp_path: Path) -> None:
    part = put_part(checkpoint, tmp_path, 0, 2)
    entries = [loaded(seal_of(part, shard=digest(n))) for n in range(3)]
    for entry in entries[:2]:
        checkpoint.record_load(TARGET, entry)
    checkpoint.intend_load(TARGET, entries[2].model_copy(update={"state": "loading"}))
    checkpoint.distrust_loads(TARGET, [entries[1].shard, digest("nobody knows it")], "doubted")
    assert list(checkpoint.loaded_ids(TARGET)) == [entries[0].shard]
    states = {entry.shard: (entry.state, entry.rows) for entry in checkpoint.loads(TARGET)}
    assert states == {e.shard: (state, e.rows) for e, state in zip(entries, ("loaded", "doubted", "loading"), strict=True)}
    checkpoint.record_load(TARGET, entries[1])
    checkpoint.forget_load(TARGET, entries[2].shard)
    assert sorted(checkpoint.loaded_ids(TARGET)) == sorted(entry.shard for entry in entries[:2])
