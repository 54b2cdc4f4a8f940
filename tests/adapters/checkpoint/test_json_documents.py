"""Documents in a checkpoint: what is edited, truncated or newer is told apart, and a run goes on without what it cannot read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint, put_pin
from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.checkpoint.json_documents import commit_document, read_document, write_document
from tasks.adapters.object_store.registry import open_store
from tasks.domain.encoding.tuning import Tuning
from tasks.domain.errors import Newer, Unreadable
from tasks.domain.ports import Store
from tasks.domain.shards.seal import Loaded, Seal
from tests.builders.checkpoints import IDENTITY, RECORD, SHARD, TARGET, loaded, nothing_recovered, put_part, seal_of
from tests.builders.seals import DIGEST, SEAL


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{secrets.token_hex(8)}")


@pytest.fixture
def damages(store: Store) -> Damages:
    return Damages(store, "pydocs")


@pytest.fixture
def checkpoint(store: Store, damages: Damages) -> Checkpoint:
    return Checkpoint(store, "pydocs", IDENTITY.fingerprint, damages)


def change(store: Store, key: str, edit: Callable[[dict[str, object]], object]) -> None:
    document = json.loads(store.read(key) or b"")
    edit(document)
    store.write(key, json.dumps(document).encode())


def test_a_seal_that_was_edited_is_found_when_it_is_read(store: Store, tmp_path: Path) -> None:
    checkpoint = Checkpoint(store, "pydocs", IDENTITY.fingerprint)
    checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5)))
    change(store, checkpoint.layout.seal(SHARD), lambda seal: seal.update(name="another.parquet"))
    with pytest.raises(Unreadable, match="edited since it was written"):
        checkpoint.read_seal(SHARD)


def test_so_is_an_amendment(store: Store, tmp_path: Path) -> None:
    checkpoint = Checkpoint(store, "pydocs", IDENTITY.fingerprint)
    checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5, aside=1)))
    checkpoint.amend(nothing_recovered(SHARD))
    change(store, checkpoint.layout.amendment(SHARD, 1), lambda amendment: amendment.update(run="another"))
    with pytest.raises(Unreadable, match="edited since it was written"):
        checkpoint.effective_seal(SHARD)


def test_a_checksum_that_was_removed_is_an_edit(store: Store, tmp_path: Path) -> None:
    checkpoint = Checkpoint(store, "pydocs", IDENTITY.fingerprint)
    checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5)))
    change(store, checkpoint.layout.seal(SHARD), lambda seal: seal.pop("checksum"))
    with pytest.raises(Unreadable, match="edited"):
        checkpoint.read_seal(SHARD)


def test_another_layout_of_the_same_document_is_no_edit(store: Store, tmp_path: Path) -> None:
    checkpoint = Checkpoint(store, "pydocs", IDENTITY.fingerprint)
    seal = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5)))
    key = checkpoint.layout.seal(SHARD)
    store.write(key, json.dumps(json.loads(store.read(key) or b""), indent=4, sort_keys=True).encode())
    assert checkpoint.read_seal(SHARD) == seal


def test_a_seal_of_the_first_version_is_read_as_it_is(store: Store) -> None:
    store.write("a", SEAL.encode())
    seal = read_document(store, "a", Seal)
    assert seal
    assert seal.digest == DIGEST
    write_document(store, "b", seal)
    assert store.read("b") == SEAL.encode()


def test_a_seal_that_breaks_the_law_of_accounted_rows_is_damaged(store: Store, tmp_path: Path) -> None:
    checkpoint = Checkpoint(store, "pydocs", IDENTITY.fingerprint)
    seal = seal_of(put_part(checkpoint, tmp_path, 0, 5)).model_copy(update={"format_version": 1, "source_rows": 6})
    write_document(store, checkpoint.layout.seal(SHARD), seal)
    with pytest.raises(Unreadable, match="6 source rows"):
        checkpoint.read_seal(SHARD)


@pytest.mark.parametrize("kind", [Seal, Loaded, Tuning])
def test_a_newer_document_is_refused_and_stays(store: Store, damages: Damages, kind: type[Seal | Loaded | Tuning]) -> None:
    damages.mend("run-2", print)
    store.write("a", b'{"format_version": 99, "what": "nobody knows yet"}')
    with pytest.raises(Newer, match=r"a: written by a newer Kitestring \(format 99; .*upgrade"):
        read_document(store, "a", kind, damages=damages)
    assert store.read("a")
    assert not damages.count


def test_each_kind_reads_its_own_formats(store: Store) -> None:
    store.write("a", b'{"format_version": 2}')
    with pytest.raises(Newer):
        read_document(store, "a", Tuning)
    with pytest.raises(Unreadable):
        read_document(store, "a", Seal)


def test_who_looks_names_what_cannot_be_read_and_changes_nothing(checkpoint: Checkpoint, damages: Damages) -> None:
    key = checkpoint.layout.seal(SHARD)
    checkpoint.store.write(key, b"{")
    assert checkpoint.read_seal(SHARD) is None
    assert checkpoint.read_seal(SHARD) is None
    (line,) = damages.lines
    assert key in line
    assert "not JSON: `kitestring run` rewrites it" in line
    assert checkpoint.store.read(key) == b"{"


def test_a_run_moves_it_aside_and_seals_anew(checkpoint: Checkpoint, damages: Damages, tmp_path: Path) -> None:
    told: list[str] = []
    damages.mend("run-2", lambda _key, line: told.append(line))
    checkpoint.store.write(checkpoint.layout.seal(SHARD), b"{")
    seal = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5)))
    assert checkpoint.read_seal(SHARD) == seal
    kept = f"pydocs/damaged/run-2/{IDENTITY.fingerprint}/shards/{SHARD}/seal.json"
    assert checkpoint.store.read(kept) == b"{"
    (line,) = told
    assert line.endswith(f"moved to {kept}")


def test_what_another_one_has_written_meanwhile_is_not_moved(store: Store, damages: Damages) -> None:
    """Who read the damaged one may be late."""
    damages.mend("run-2", print)
    write_document(store, "pydocs/a", Tuning())
    assert damages.take("pydocs/a", b"what stood there", "damaged") is False
    assert read_document(store, "pydocs/a", Tuning) == Tuning()
    assert damages.count == 0


def test_a_commit_over_what_cannot_be_read_wins(store: Store, damages: Damages) -> None:
    damages.mend("run-2", print)
    store.write("pydocs/a", b"")
    assert commit_document(store, "pydocs/a", Tuning(note="ours"), damages=damages) == Tuning(note="ours")


def test_an_amendment_that_does_not_fit_is_passed_over_with_what_follows(checkpoint: Checkpoint, damages: Damages, tmp_path: Path) -> None:
    damages.mend("run-2", print)
    seal = checkpoint.seal(seal_of(put_part(checkpoint, tmp_path, 0, 5, aside=1)))
    misfit = nothing_recovered(SHARD).model_copy(update={"quarantined": ()})
    write_document(checkpoint.store, checkpoint.layout.amendment(SHARD, 1), misfit)
    write_document(checkpoint.store, checkpoint.layout.amendment(SHARD, 2), nothing_recovered(SHARD, 2))
    assert checkpoint.effective_seal(SHARD) == seal
    assert checkpoint.amend(nothing_recovered(SHARD)) == nothing_recovered(SHARD)
    assert [amendment.number for amendment in checkpoint.amendments(SHARD)] == [1, 2]


def test_a_misnamed_entry_of_the_ledger_is_damage(checkpoint: Checkpoint, damages: Damages, tmp_path: Path) -> None:
    entry = loaded(seal_of(put_part(checkpoint, tmp_path, 0, 5)))
    write_document(checkpoint.store, checkpoint.layout.loaded(TARGET, "00" * 16), entry)
    assert list(checkpoint.loads(TARGET)) == []
    assert "under the name of another" in damages.lines[0]


def test_a_pin_that_cannot_be_read_is_written_again(store: Store, damages: Damages) -> None:
    damages.mend("run-2", print)
    store.write("pydocs/encoders/declared.json", b"null")
    assert put_pin(store, "pydocs", "declared", RECORD, damages) == RECORD
