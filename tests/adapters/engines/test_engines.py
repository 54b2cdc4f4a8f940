"""What every engine does with a group of shards, wherever it encodes: the local one with a real model, and those of two hosts without.

The hosts of `fake` are threads of this process, those of `ray` are actors of a real cluster, those of `dask` processes beside a real one's
workers. Faults are files, so that all can have them.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint, read_pin
from tasks.adapters.checkpoint.part_files import PartMeta, part_of, write_part
from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.engines.cluster_hosts.fleet import Fleet
from tasks.adapters.engines.far_spec import spec_for_afar
from tasks.adapters.engines.local_engine import LocalEngine
from tasks.adapters.engines.ray_engine import RayCluster
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.rows.row_schema import rows_schema
from tasks.adapters.sources.registry import open_source
from tasks.domain.encoder_identity import EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_events import (
    EVENTS,
    DocumentMoved,
    EncodingEvent,
    ShardAmended,
    ShardFailed,
    ShardLoaded,
    ShardReused,
    ShardSealed,
)
from tasks.domain.encoding.encoding_spec import EncodingSpec, LoadGroup, ShardGroup
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.engine import DaskEngineSettings, RayEngineSettings
from tasks.domain.job.parse import parse_job
from tasks.domain.job.target import TARGETS
from tasks.domain.ports import Engine
from tasks.domain.shards.seal import Quarantined
from tasks.domain.shards.shard import Shard, name_shard
from tasks.domain.target.collection import CollectionSpec
from tests.builders.engines import faults
from tests.builders.engines.fake_engine import open_fake
from tests.builders.engines.file_target import KIND as FILE_TARGET
from tests.builders.engines.file_target import FileCollection, FileTarget
from tests.builders.engines.hash_encoders import HashEncoders, by_hash
from tests.builders.engines.hash_host import HashActor, HashHost
from tests.builders.inprocess import ThreadRank
from tests.builders.kitestring import make_job, write_rows

RUN = "20261126T080000000-abcdef"
ROWS, PIECE = 40, 10
LEDGER = "1edger"


@dataclass
class Bench:
    """An engine, what it was told, and what it tells."""

    spec: EncodingSpec
    open: Callable[[EncodingSpec], Engine]
    folder: Path
    told: list[EncodingEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = self.open(self.spec)
        identity = EncoderIdentity(
            kind="k", model="m", revision=None, weights=self.spec.weights, preprocessing={}, precision=self.engine.facts().precision
        )
        self.record = EncoderRecord(identity=identity, facts=self.engine.facts())
        self.store = open_store(self.spec.job.checkpoint)
        self.checkpoint = Checkpoint(self.store, self.spec.job.corpus, identity.fingerprint)

    def shards(self) -> list[Shard]:
        source = open_source(self.spec.job.source, rows=self.spec.job.shards.rows)
        return [name_shard(span, rows_as={}, fingerprint=self.record.identity.fingerprint) for span in source.spans()]

    def write(self, *files: str) -> list[Shard]:
        """Files of their own rows; the shard of each."""
        for number, name in enumerate(files):
            write_rows(self.folder / name, 1_000 * number, 1_000 * number + ROWS)
        return self.shards()

    def encode(self, *shards: Shard, attempt: str = RUN, **more: Any) -> list[EncodingEvent]:
        """What is told meanwhile."""
        before = len(self.told)
        self.engine.encode(ShardGroup(shards=shards, record=self.record, attempt=attempt, **more))
        return self.told[before:]

    def collection(self) -> FileCollection:
        """Where sealed shards are loaded, made."""
        collection = FileCollection(FileTarget(self.spec.job.target.address), "rows")
        collection.ensure(self._made)
        return collection

    @property
    def _made(self) -> CollectionSpec:
        spec = {"name": "rows", "alias": "a", "dim": self.record.facts.dim, "metric": "COSINE", "store_text": True, "id_length": 100}
        return CollectionSpec(**spec, fields=(), fingerprint=self.record.identity.fingerprint, model="m")

    def load(self, *shards: Shard, identity: str | None = None) -> list[EncodingEvent]:
        """What is told while they are loaded."""
        before, identity = len(self.told), identity or self.collection().identity() or ""
        self.engine.load(LoadGroup(shards=shards, record=self.record, collection=self._made, identity=identity, ledger=LEDGER))
        return self.told[before:]

    def failing(self, *shards: Shard) -> tuple[Permanent, list[EncodingEvent]]:
        before = len(self.told)
        with pytest.raises(Permanent) as caught:
            self.encode(*shards)
        return caught.value, self.told[before:]

    def keys(self, shard: Shard) -> list[str]:
        seal = self.checkpoint.effective_seal(shard.id)
        assert seal
        return [key for part in seal.parts for key in self.checkpoint.verified_part(part)["id"].to_pylist()]


def _local(scratch: Path, tell: Callable[[EncodingEvent], None], spec: EncodingSpec) -> Engine:
    return LocalEngine(spec, scratch=scratch, tell=tell)


def _fake(scratch: Path, tell: Callable[[EncodingEvent], None], spec: EncodingSpec) -> Engine:
    return open_fake(spec, scratch=scratch, tell=tell)


def _ray(_scratch: Path, tell: Callable[[EncodingEvent], None], spec: EncodingSpec) -> Engine:
    settings = spec.job.compute.engine
    assert isinstance(settings, RayEngineSettings)
    return Fleet(lambda: RayCluster(settings, run=spec.run, actor_class=HashActor), spec_for_afar(spec, shared=True), tell=tell)


def _dask(_scratch: Path, tell: Callable[[EncodingEvent], None], spec: EncodingSpec) -> Engine:
    from tasks.adapters.engines.dask_engine import DaskCluster  # noqa: PLC0415 - where the extra is installed

    settings = spec.job.compute.engine
    assert isinstance(settings, DaskEngineSettings)
    host = f"{HashHost.__module__}:{HashHost.__name__}"
    return Fleet(lambda: DaskCluster(settings, run=spec.run, host=host), spec_for_afar(spec, shared=True), tell=tell)


OPENS = {"local": _local, "fake": _fake, "ray": _ray, "dask": _dask}


@pytest.fixture(params=[*OPENS])
def bench(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    document = make_job(tmp_path, tiny_model, compute__unsaved_rows=2 * PIECE)
    if request.param in ("ray", "dask"):
        document["compute"]["engine"] = request.getfixturevalue(f"{request.param}_server").engine()
    else:
        document["checkpoint"] = f"memory://{secrets.token_hex(8)}"
    monkeypatch.setitem(TARGETS.known, "file", FILE_TARGET)
    document["target"] = {"kind": "file", "collection": "rows", "folder": str(tmp_path)}
    job = parse_job(document)
    faults.install(faults.folder_of(job), monkeypatch.setattr)
    spec = EncodingSpec(run=RUN, job=job, fields=(), weights=locate_model(job.encoder).weights, declared="d" * 32)
    monkeypatch.setattr(torchrun_encoders, "Coordinator", partial(Coordinator, start=ThreadRank))
    if request.param != "local":
        monkeypatch.setitem(ENCODERS.known, job.encoder.kind, by_hash(job.encoder.kind))
    write_rows(tmp_path / "rows" / "a.parquet", 0, ROWS)
    opened: list[Engine] = []
    told: list[EncodingEvent] = []

    def opens(spec: EncodingSpec) -> Engine:
        scratch = tmp_path / f"s{len(opened)}"
        scratch.mkdir()
        opened.append(OPENS[request.param](scratch, told.append, spec))
        return opened[-1]

    yield Bench(spec, opens, tmp_path / "rows", told)
    for engine in opened:
        engine.close()


def test_every_row_of_a_group_comes_out_once_and_each_shard_is_told_of(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    told = bench.encode(*shards)
    assert {(event.seal.shard, event.encoded, event.adopted) for event in told if isinstance(event, ShardSealed)} == {
        (shard.id, ROWS, 0) for shard in shards
    }
    assert len(told) == 2
    for number, shard in enumerate(shards):
        assert bench.keys(shard) == [f"row-{row}" for row in range(1_000 * number, 1_000 * number + ROWS)]
    seal = bench.checkpoint.read_seal(shards[0].id)
    assert seal
    assert (seal.run, seal.attempt, seal.dim, len(seal.parts)) == (RUN, RUN, bench.record.facts.dim, ROWS // PIECE)


def test_what_the_vectors_are_made_with_is_written_down_before_the_first_seal(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    assert not list(bench.store.list(""))
    bench.encode(shard)
    assert bench.checkpoint.read_encoder() == bench.record
    assert read_pin(bench.store, bench.spec.job.corpus, bench.spec.declared) == bench.record


def test_a_sealed_shard_is_told_of_and_not_encoded_again(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    bench.encode(shard)
    before = {stored.key for stored in bench.store.list("")}
    seal = bench.checkpoint.read_seal(shard.id)
    assert seal
    assert bench.encode(shard, attempt=f"{RUN}-again") == [ShardReused(seal=seal)]
    assert {stored.key for stored in bench.store.list("")} == before


def test_what_an_earlier_try_finished_is_adopted(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    bench.encode(shard)
    seal = bench.checkpoint.read_seal(shard.id)
    assert seal
    bench.store.delete(bench.checkpoint.layout.seal(shard.id))
    bench.store.delete(seal.parts[1].key)
    (event,) = bench.encode(shard, attempt=f"{RUN}-again")
    assert isinstance(event, ShardSealed)
    assert (event.encoded, event.adopted) == (PIECE, ROWS // PIECE - 1)
    assert len(set(bench.keys(shard))) == ROWS


def test_a_bad_shard_fails_alone_with_its_own_error(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet", "c.parquet")
    write_rows(bench.folder / "a.parquet", 0, ROWS + 1)  # after it was planned
    error, told = bench.failing(*shards)
    failed = [event for event in told if isinstance(event, ShardFailed)]
    assert [(event.shard, event.name, event.leaf) for event in failed] == [(shards[0].id, "a.parquet row groups 0-0", "permanent")]
    assert (str(error), type(error)) == (failed[0].text, type(failed[0].error))
    assert {event.seal.shard for event in told if isinstance(event, ShardSealed)} == {shards[1].id, shards[2].id}


def test_what_nobody_has_foreseen_of_a_shard_is_its_own_alone(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    faults.break_shard(faults.folder_of(bench.spec.job), shards[0].id)
    error, told = bench.failing(*shards)
    failed, sealed = sorted(told, key=lambda event: event.kind)
    assert isinstance(failed, ShardFailed)
    assert (failed.shard, failed.text, failed.leaf) == (shards[0].id, "RuntimeError: a mistake; please report this", "permanent")
    assert isinstance(sealed, ShardSealed)
    assert type(error) is Permanent


def test_a_shard_that_is_refused_for_its_rows_says_which_and_leaves_no_part(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    keys = [f"row-{row}" for row in range(ROWS)]
    table = pa.table({"id": [*keys, "row-7"], "text": [f"text {row}" for row in range(ROWS + 1)]})
    pq.write_table(table, bench.folder / "a.parquet")
    (shard,) = bench.shards()
    error, (event,) = bench.failing(shard)
    assert isinstance(error, BadInput)
    assert isinstance(event, ShardFailed)
    assert (event.leaf, event.row, error.row) == ("bad input", 7, 7)
    assert "'row-7' occurs twice" in event.text
    assert not list(bench.checkpoint.parts_of(shard.id))


def test_rows_that_were_set_aside_are_tried_again_and_amend_the_seal(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    bench.encode(shard)
    seal = bench.checkpoint.read_seal(shard.id)
    assert seal
    lost = seal.parts[-1]  # as if its rows had been set aside
    aside = tuple(Quarantined(row=row, id=f"row-{row}", reason="once") for row in range(lost.first, lost.stop))
    bench.store.delete(bench.checkpoint.layout.seal(shard.id))
    bench.checkpoint.seal(seal.model_copy(update={"parts": seal.parts[:-1], "embedded": ROWS - PIECE, "quarantined": aside}))
    assert bench.encode(shard, rows="quarantined") == [ShardAmended(shard=shard.id, recovered=PIECE)]
    assert len(set(bench.keys(shard))) == ROWS
    assert bench.encode(shard, rows="quarantined") == []


def test_a_row_that_the_source_no_longer_counts_stays_quarantined(bench: Bench) -> None:
    """As where a version joins the samples of a tar otherwise."""
    (shard,) = bench.write("a.parquet")
    bench.encode(shard)
    seal = bench.checkpoint.read_seal(shard.id)
    assert seal
    aside = (Quarantined(row=0, id="row-0", reason="once"), Quarantined(row=ROWS, id="gone", reason="no image"))
    bench.store.delete(bench.checkpoint.layout.seal(shard.id))
    changed = {"parts": seal.parts[1:], "embedded": ROWS - PIECE, "source_rows": ROWS - PIECE + 2, "quarantined": aside}
    bench.checkpoint.seal(seal.model_copy(update=changed))
    assert bench.encode(shard, rows="quarantined") == [ShardAmended(shard=shard.id, recovered=1)]
    [amendment] = bench.checkpoint.amendments(shard.id)
    assert (amendment.recovered, amendment.duplicates, amendment.quarantined) == ((0,), (), (aside[1],))


def test_a_shard_whose_rows_cannot_be_read_again_does_not_stop_the_retry_of_others(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    bench.encode(*shards)
    for shard in shards:
        seal = bench.checkpoint.read_seal(shard.id)
        assert seal
        aside = tuple(Quarantined(row=row, id=f"row-{row}", reason="once") for row in range(PIECE))
        bench.store.delete(bench.checkpoint.layout.seal(shard.id))
        bench.checkpoint.seal(seal.model_copy(update={"parts": seal.parts[1:], "embedded": ROWS - PIECE, "quarantined": aside}))
    (bench.folder / "a.parquet").unlink()
    with pytest.raises(Permanent):
        bench.encode(*shards, rows="quarantined")
    first, second = sorted(bench.told[-2:], key=lambda event: event.kind, reverse=True)
    assert isinstance(first, ShardFailed)
    assert first.shard == shards[0].id
    assert second == ShardAmended(shard=shards[1].id, recovered=PIECE)


def test_a_passing_fault_is_raised_and_whoever_called_tries_again(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    folder = faults.folder_of(bench.spec.job)
    faults.refuse_part(folder)
    with pytest.raises(Transient, match="away for a moment"):
        bench.encode(shard)
    assert bench.told == []
    tries = faults.parts_written(folder)
    assert sorted(tries) == sorted(set(tries)), "an engine never tries again by itself"
    (event,) = bench.encode(shard)
    assert isinstance(event, ShardSealed)
    assert (event.encoded, event.adopted) == (PIECE, ROWS // PIECE - 1)


def test_a_document_that_cannot_be_read_is_moved_aside_told_of_and_made_again(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    bench.encode(shard)
    key = bench.checkpoint.layout.seal(shard.id)
    bench.store.write(key, b"{")
    moved, sealed = bench.encode(shard, attempt=f"{RUN}-again")
    assert isinstance(moved, DocumentMoved)
    assert moved.key == key
    assert f"damaged/{RUN}/" in moved.line
    assert isinstance(sealed, ShardSealed)
    assert bench.checkpoint.read_seal(shard.id) == sealed.seal


def test_its_progress_tells_rows_and_who_did_them(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    assert bench.engine.progress().rows == 0
    bench.engine.expect(2 * ROWS)
    for shard in shards:
        bench.encode(shard)
    now = bench.engine.progress()
    assert (now.rows, sum(now.rows_by_rank), sum(work.rows for work in now.work)) == (2 * ROWS,) * 3
    assert sum(work.parts for work in now.work) == 2 * ROWS // PIECE
    assert {*now.newest.values()} <= {shard.name for shard in shards}
    assert now.under_way == ()
    assert bench.engine.width >= 2


def test_a_host_with_nothing_to_do_is_given_what_another_has_not_begun(bench: Bench) -> None:
    """One host has both shards in its window before the other one asks."""
    if not isinstance(bench.engine, Fleet):
        pytest.skip("there is one host")
    rows = 10 * PIECE  # more pieces than encoders hold at a time
    for number, name in enumerate(("a.parquet", "b.parquet")):
        write_rows(bench.folder / name, number * rows, (number + 1) * rows)
    folder, ended = faults.folder_of(bench.spec.job), Future[list[EncodingEvent]]()
    held = faults.hold(folder)
    threading.Thread(target=lambda: ended.set_result(bench.encode(*bench.shards())), daemon=True).start()
    deadline = time.monotonic() + 60
    while not (folder / "recalled").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    held.unlink()
    told = ended.result(timeout=60)
    assert sorted(key for shard in bench.shards() for key in bench.keys(shard)) == sorted(f"row-{row}" for row in range(2 * rows))
    assert sum(event.encoded for event in told if isinstance(event, ShardSealed)) == 2 * rows, "what was finished is adopted"
    hosts = bench.engine.progress().hosts
    assert sorted(host.given_back for host in hosts) == [0, 1]
    assert all(host.rows for host in hosts)
    assert not any(host.doubled or host.left_out for host in hosts)


def test_work_that_comes_after_a_release_is_done(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    for shard in shards:
        bench.engine.release()
        assert len(bench.encode(shard)) == 1


def test_a_closed_engine_takes_no_group(bench: Bench) -> None:
    (shard,) = bench.write("a.parquet")
    bench.engine.close()
    bench.engine.close()
    with pytest.raises(Transient, match="closed"):
        bench.encode(shard)
    assert bench.checkpoint.read_seal(shard.id) is None


def test_a_dry_engine_measures_and_leaves_the_checkpoint_alone(bench: Bench) -> None:
    columns = {"row": range(64), "id": map(str, range(64)), "text": ["the one that was"] * 64}
    rows = pa.table({name: list(values) for name, values in columns.items()}, schema=rows_schema("text", ()))
    found = bench.open(bench.spec.model_copy(update={"dry": True})).measure(rows)
    assert found.kind == "dry run"
    assert found.rows >= 64 - 16
    assert found.encode_seconds > 0
    assert not list(bench.store.list(""))


def test_all_that_it_is_told_and_tells_are_plain_values(bench: Bench) -> None:
    shards = bench.write("a.parquet", "b.parquet")
    spec = EncodingSpec.model_validate_json(bench.spec.model_dump_json())
    assert spec == bench.spec
    group = ShardGroup(shards=tuple(shards), record=bench.record, attempt=RUN)
    write_rows(bench.folder / "b.parquet", 0, 1)
    with pytest.raises(Permanent):
        bench.open(spec).encode(ShardGroup.model_validate_json(group.model_dump_json()))
    assert {event.kind for event in bench.told} == {"sealed", "failed"}
    assert [EVENTS.validate_json(EVENTS.dump_json(event)) for event in bench.told] == bench.told


def texts_of(path: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Rewrite a file's rows."""
    pq.write_table(pa.Table.from_pylist(edit(pq.read_table(path).to_pylist())), path)


def vectors_by_key(bench: Bench, shard: Shard) -> dict[str, list[float]]:
    seal = bench.checkpoint.effective_seal(shard.id)
    assert seal
    tables = [bench.checkpoint.verified_part(part) for part in seal.parts]
    return {row["id"]: row["vector"] for table in tables for row in table.to_pylist()}


def encoded_by(events: list[EncodingEvent]) -> list[int]:
    return [event.encoded for event in events if isinstance(event, ShardSealed)]


def test_rows_whose_content_has_a_vector_take_it_over(bench: Bench) -> None:
    (before,) = bench.write("a.parquet")
    bench.encode(before)
    old = vectors_by_key(bench, before)

    def edited(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[7]["text"] += " and more"
        return [*rows[20:], *rows[:20]]

    texts_of(bench.folder / "a.parquet", edited)
    (after,) = bench.shards()
    assert encoded_by(bench.encode(after, attempt=RUN, donors=(before.id,))) == [1]
    new = vectors_by_key(bench, after)
    assert list(new) == [f"row-{row}" for row in [*range(20, ROWS), *range(20)]]
    assert [key for key in new if new[key] != old[key]] == ["row-7"]
    seal = bench.checkpoint.read_seal(after.id)
    assert seal
    assert sum(part.reused for part in seal.parts) == ROWS - 1
    (again,) = bench.write("a.parquet")  # the first content: both earlier shards have vectors of it
    bench.store.delete(bench.checkpoint.layout.seal(again.id))
    assert encoded_by(bench.encode(again, attempt=f"{RUN}-2", donors=(after.id,))) == [1]
    assert vectors_by_key(bench, again) == old


def test_a_shard_in_which_nothing_is_new_starts_no_encoder(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = bench.write("a.parquet", "b.parquet")
    bench.encode(one, two)
    whole = vectors_by_key(bench, one) | vectors_by_key(bench, two)
    texts_of(bench.folder / "a.parquet", lambda rows: [*rows, *pq.read_table(bench.folder / "b.parquet").to_pylist()])
    (bench.folder / "b.parquet").unlink()
    (both,) = bench.shards()
    bench.engine.close()
    for encoders in (Coordinator, HashEncoders):
        monkeypatch.setattr(encoders, "submit", None)
    bench.engine = bench.open(bench.spec)
    assert encoded_by(bench.encode(both, donors=(one.id, two.id))) == [0]
    assert vectors_by_key(bench, both) == whole


@pytest.mark.parametrize("what", ["part", "digests", "seal"])
def test_what_a_donor_has_lost_is_encoded(bench: Bench, what: str) -> None:
    (before,) = bench.write("a.parquet")
    bench.encode(before)
    seal, layout = bench.checkpoint.read_seal(before.id), bench.checkpoint.layout
    assert seal
    old = vectors_by_key(bench, before)
    key = {"part": seal.parts[1].key, "digests": layout.digests(before.id, seal.attempt), "seal": layout.seal(before.id)}[what]
    data = bench.store.read(key)
    assert data
    bench.store.write(key, data[:-9] + b"x" + data[-8:])
    texts_of(bench.folder / "a.parquet", lambda rows: rows[::-1])
    (after,) = bench.shards()
    assert encoded_by(bench.encode(after, donors=(before.id, "f" * 32))) == [PIECE if what == "part" else ROWS]
    assert vectors_by_key(bench, after).keys() == old.keys()


def test_what_no_encoder_could_embed_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is in quarantine has a digest and no vector."""
    (before,) = bench.write("a.parquet")
    bench.encode(before)
    seal = bench.checkpoint.read_seal(before.id)
    assert seal
    first, *others = seal.parts
    table = bench.checkpoint.verified_part(first)
    path = bench.folder / "part"
    aside = Quarantined(row=0, id="row-0", reason="not finite")
    meta = PartMeta(shard=before.id, first=first.first, stop=first.stop, quarantined=(aside,))
    write_part(path, table.slice(1), meta)
    data = path.read_bytes()
    path.unlink()
    bench.store.write(first.key, data)
    changed = part_of(first.key, data, table.slice(1), meta)
    spoiled = seal.model_copy(update={"parts": (changed, *others), "embedded": ROWS - 1, "quarantined": (aside,)})
    bench.store.delete(bench.checkpoint.layout.seal(before.id))
    bench.checkpoint.seal(spoiled)
    texts_of(bench.folder / "a.parquet", lambda rows: rows[::-1])
    (after,) = bench.shards()
    assert encoded_by(bench.encode(after, donors=(before.id,))) == [1]


def test_what_is_sealed_is_loaded_once_and_the_ledger_says_so(bench: Bench) -> None:
    one, two, unsealed = bench.write("a.parquet", "b.parquet", "c.parquet")
    bench.encode(one, two)
    told = bench.load(one, two, unsealed)
    assert {event.shard for event in told if isinstance(event, ShardLoaded)} == {one.id, two.id}
    assert len(told) == 2, "a shard without a seal is passed over"
    assert bench.collection().writes() == {f"row-{row}": 1 for row in [*range(ROWS), *range(1_000, 1_000 + ROWS)]}
    for event in told:
        assert isinstance(event, ShardLoaded)
        assert bench.checkpoint.read_load(LEDGER, event.shard) == event.entry
        assert (event.entry.state, event.entry.rows, event.entry.run, event.replaced) == ("loaded", ROWS, RUN, False)
    assert sorted(bench.checkpoint.loaded_ids(LEDGER)) == sorted([one.id, two.id])


def test_what_a_lost_host_has_loaded_or_begun_is_told_of_or_loaded_again(bench: Bench) -> None:
    one, two = bench.write("a.parquet", "b.parquet")
    bench.encode(one, two)
    bench.load(one, two)
    entry = bench.checkpoint.read_load(LEDGER, two.id)
    assert entry
    bench.checkpoint.intend_load(LEDGER, entry.model_copy(update={"state": "loading"}))
    told = bench.load(one, two)
    assert {(event.shard, event.replaced) for event in told if isinstance(event, ShardLoaded)} == {(one.id, True), (two.id, True)}
    assert set(bench.collection().writes().values()) == {1, 2}
    assert all(writes == 2 for key, writes in bench.collection().writes().items() if int(key[4:]) >= 1_000), (
        "its intent was beside the entry"
    )
    assert two.id in bench.checkpoint.loaded_ids(LEDGER)


def test_a_damaged_part_is_not_loaded_and_other_shards_are(bench: Bench) -> None:
    one, two = bench.write("a.parquet", "b.parquet")
    bench.encode(one, two)
    seal = bench.checkpoint.read_seal(one.id)
    assert seal
    bench.store.write(seal.parts[0].key, b"damaged")
    with pytest.raises(Permanent, match="not the bytes that were sealed"):
        bench.load(one, two)
    (loaded,) = [event for event in bench.told if isinstance(event, ShardLoaded)]
    assert loaded.shard == two.id
    entry = bench.checkpoint.read_load(LEDGER, one.id)
    assert entry
    assert entry.state == "loading", "an intent is written before the first row is sent"
    assert bench.checkpoint.read_seal(one.id) == seal, "whoever asked withdraws it"


def test_a_collection_that_is_another_one_from_there_is_not_loaded_into(bench: Bench) -> None:
    (one,) = bench.write("a.parquet")
    bench.encode(one)
    bench.collection()
    with pytest.raises(BadInput, match=r"leads from this host to another server than from the flow.*is another collection of that name"):
        bench.load(one, identity="another")
    assert not bench.collection().writes()
    assert bench.checkpoint.read_load(LEDGER, one.id) is None
