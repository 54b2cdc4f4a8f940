"""Which root is in no id, by what a checkpoint tells: of two runs at once, of documents that are damaged, of older versions."""

from __future__ import annotations

import datetime as dt
import secrets

import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.damaged_documents import Damages
from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.checkpoint.places.source_places import SourcePlaces
from tasks.adapters.object_store.registry import open_store
from tasks.domain.progress.live_run import LiveRun
from tasks.domain.shards.removal import Roots
from tasks.domain.shards.seal import Loaded
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole, name_shard
from tests.builders.checkpoints import TARGET, snapshot


@pytest.fixture
def checkpoint() -> Checkpoint:
    store = open_store(f"memory://{secrets.token_hex(8)}")
    damages = Damages(store, "rows")
    damages.mend("run", lambda _key, _line: None)
    return Checkpoint(store, "rows", "0f" * 16, damages)


def shard_at(root: str, name: str = "a.jsonl") -> Shard:
    file = FileVersion(path=f"{root}/{name}", name=name, size=1, version="1")
    return name_shard(Span(files=(file,), extent=Whole(), rows=1), rows_as={}, fingerprint="f")


def places(checkpoint: Checkpoint, now: str, moved_from: str | None = None, *, target: str = "none") -> SourcePlaces:
    roots = Roots(now=now, moved_from=moved_from)
    return SourcePlaces(checkpoint, roots=lambda: roots, target=lambda: target, shards=lambda: [shard_at(now), shard_at(now, "b.jsonl")])


def sealed(checkpoint: Checkpoint) -> None:
    checkpoint.store.write(checkpoint.layout.seal("ab" * 16), b"{}")


def entry(shard: Shard, place: str | None) -> Loaded:
    return Loaded(shard=shard.id, group="a.jsonl", place=place, rows=1, seal="", run="r", seconds=0, loaded_at="")


def test_of_two_first_runs_at_once_one_has_the_ids_without_a_root(checkpoint: Checkpoint) -> None:
    one, two = places(checkpoint, "/one"), places(checkpoint, "/two")
    assert (one.in_id(shard_at("/one")), two.in_id(shard_at("/two"))) == ("", "")  # neither has written anything
    one.settle("/one")
    two.settle("/two")
    assert (one.in_id(shard_at("/one")), two.in_id(shard_at("/two"))) == ("", "/two")
    assert places(checkpoint, "/one").in_id(shard_at("/one")) == ""


def test_a_run_that_fails_before_it_encodes_leaves_no_first_root(checkpoint: Checkpoint) -> None:
    failed, other = places(checkpoint, "/one"), places(checkpoint, "/two")
    failed.settle("/one")
    other.settle("/two")
    other.withdraw()  # it was not the one that wrote it
    assert places(checkpoint, "/two").in_id(shard_at("/two")) == "/two"
    failed.withdraw()
    assert checkpoint.store.read(checkpoint.layout.first_roots) is None
    assert places(checkpoint, "/two").in_id(shard_at("/two")) == ""
    failed = places(checkpoint, "/one")
    failed.settle("/one")
    sealed(checkpoint)
    failed.withdraw()
    assert places(checkpoint, "/two").in_id(shard_at("/two")) == "/two"


def test_the_first_root_stays_while_another_run_that_may_have_read_it_is_in_progress(checkpoint: Checkpoint) -> None:
    failed, other = places(checkpoint, "/one"), places(checkpoint, "/two")
    failed.settle("/one")
    other.settle("/two")
    now = dt.datetime.now(dt.UTC)
    live = LiveRun(run="other", flow="embed", machine="m", began=now, at=now, snapshot=snapshot())
    LiveRuns(checkpoint.store, "rows").publish(live)
    failed.withdraw()
    assert places(checkpoint, "/two").in_id(shard_at("/two")) == other.in_id(shard_at("/two")) == "/two"
    LiveRuns(checkpoint.store, "rows").publish(live.model_copy(update={"state": "failed"}))
    failed.withdraw()
    assert checkpoint.store.read(checkpoint.layout.first_roots) is None


def test_files_that_moved_are_known_by_their_first_root_and_any_other_by_its_own(checkpoint: Checkpoint) -> None:
    for root in ("/one", "/two"):
        places(checkpoint, root).settle(root)
    for now, before, known_as, in_id in (("/b", "/one", "/one", ""), ("/c", "/two", "/two", "/two"), ("/d", "/c", "/two", "/two")):
        moved = places(checkpoint, now, before)
        moved.settle(now)
        for found in (moved, places(checkpoint, now)):
            assert (found.known_as(now), found.in_id(shard_at(now))) == (known_as, in_id)
    assert places(checkpoint, "/e").in_id(shard_at("/e")) == "/e"


def test_seals_of_before_are_of_the_one_root_that_ledgers_know(checkpoint: Checkpoint) -> None:
    sealed(checkpoint)
    checkpoint.record_address("address", TARGET)
    checkpoint.record_root(TARGET, "/one")
    assert (places(checkpoint, "/one").in_id(shard_at("/one")), places(checkpoint, "/two").in_id(shard_at("/two"))) == ("", "/two")
    places(checkpoint, "/two").settle("/two")
    checkpoint.record_root(TARGET, "/two")
    assert (places(checkpoint, "/one").in_id(shard_at("/one")), places(checkpoint, "/two").in_id(shard_at("/two"))) == ("", "/two")


def test_of_several_roots_an_entry_says_which_its_shard_is_of(checkpoint: Checkpoint) -> None:
    sealed(checkpoint)
    checkpoint.record_address("address", TARGET)
    for root in ("/one", "/two"):
        checkpoint.record_root(TARGET, root)
    checkpoint.record_load(TARGET, entry(shard_at("/one"), "/one/a.jsonl"))
    for _ in range(2):  # as it is found, and as it was written down
        assert places(checkpoint, "/one").in_id(shard_at("/one")) == ""
        assert places(checkpoint, "/one").in_id(shard_at("/one", "b.jsonl")) == "/one"  # sealed, and nobody knows where from
        assert places(checkpoint, "/two").in_id(shard_at("/two")) == "/two"
        assert places(checkpoint, "/new", "/one").in_id(shard_at("/new")) == ""
        places(checkpoint, "/two").settle("/two")
    places(checkpoint, "/new", "/one").settle("/new")
    assert places(checkpoint, "/new").in_id(shard_at("/new")) == ""


def test_an_entry_without_a_place_is_of_its_own_collections_root_alone(checkpoint: Checkpoint) -> None:
    sealed(checkpoint)
    checkpoint.record_address("address", TARGET)
    checkpoint.record_load(TARGET, entry(shard_at("/one"), None))
    assert places(checkpoint, "/one", target=TARGET).in_id(shard_at("/one")) == ""
    assert places(checkpoint, "/one").in_id(shard_at("/one")) == "/one"
    checkpoint.write_report("r", "report.json", b'{"settings": {"source": {"uri": "/one"}}}')
    assert places(checkpoint, "/one").in_id(shard_at("/one")) == ""
    assert places(checkpoint, "/two", target=TARGET).in_id(shard_at("/two")) == "/two"


def test_a_damaged_note_is_moved_aside_and_found_again(checkpoint: Checkpoint) -> None:
    places(checkpoint, "/one").settle("/one")
    sealed(checkpoint)
    checkpoint.record_address("address", TARGET)
    checkpoint.record_root(TARGET, "/one")
    checkpoint.store.write(checkpoint.layout.first_roots, b"{")
    places(checkpoint, "/two").settle("/two")
    assert (places(checkpoint, "/one").in_id(shard_at("/one")), places(checkpoint, "/two").in_id(shard_at("/two"))) == ("", "/two")
    places(checkpoint, "/three", "/one").settle("/three")
    note = checkpoint.store.read(checkpoint.layout.place("/three"))
    assert note is not None
    checkpoint.store.write(checkpoint.layout.place("/two"), note)  # under another's name
    assert places(checkpoint, "/two").known_as("/two") == "/two"
