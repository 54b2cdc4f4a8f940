"""One behaviour for every import: the in-memory twin, Milvus 2.3.5's gRPC calls, and the REST calls of later servers.

`rest` is a server that holds requests to the references and upserts the files that it is given; rows are in a real Milvus 2.3.5.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.milvus.importer import RestImporter
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.domain.errors import Permanent
from tasks.domain.ports import Collection, Target
from tasks.domain.shards.bulk_loader import BulkLoader
from tasks.domain.shards.import_attempt import ImportState
from tests.builders.collections import part_of, spec_of
from tests.servers.import_service import TOKEN, ImportService, serving

SEEN_SECONDS = 120.0  # 2.3.5 shows imported rows some seconds after the job's end


@dataclass(frozen=True)
class Bench:
    target: Target
    loader: BulkLoader
    scratch: Path

    def made(self, name: str) -> Collection:
        collection = self.target.collection(name)
        collection.ensure(spec_of(name))
        return collection

    def staged(self, name: str, prefix: str, *parts: pa.Table) -> tuple[list[str], list[str], int]:
        """The files to import, those to upsert, and how many texts were cut."""
        with self.loader.stage(name, prefix, self.scratch) as staging:
            cut = sum(staging.add(part) for part in parts)
            return staging.files(), staging.upserts()[1], cut

    def imported(self, name: str, files: list[str]) -> list[ImportState]:
        """Start, and wait for every job's end."""
        return [self._ended(job) for job in self.loader.start(name, files, idempotency_key=uuid.uuid4().hex)]

    def _ended(self, job: str) -> ImportState:
        return next(state for state in iter(partial(self._look, job), None) if state.state != "running")

    def _look(self, job: str) -> ImportState:
        state = self.loader.look(job)
        time.sleep(0.2 if state.state == "running" else 0)
        return state


@contextmanager
def _memory(request: pytest.FixtureRequest, staging: Path) -> Iterator[tuple[Target, BulkLoader]]:
    target = MemoryTarget(f"memory://{uuid.uuid4()}")
    yield target, target.bulk_loader()


@contextmanager
def _grpc(request: pytest.FixtureRequest, staging: Path) -> Iterator[tuple[Target, BulkLoader]]:
    with closing(MilvusTarget(request.getfixturevalue("milvus_server").uri, staging=str(staging))) as target:
        yield target, target.bulk_loader()


@contextmanager
def _rest(request: pytest.FixtureRequest, staging: Path) -> Iterator[tuple[Target, BulkLoader]]:
    with _grpc(request, staging) as (target, loader), serving(ImportService("milvus", imports=_upserting(target))) as service:
        vars(loader)["_importer"] = RestImporter(service.url, token=TOKEN, database="")
        yield target, loader


def _upserting(target: Target) -> Callable[[str, list[str]], dict[str, object]]:
    def imports(collection: str, files: list[str]) -> dict[str, object]:
        if missing := [file for file in files if not Path(file).is_file()]:
            return {"state": "Failed", "progress": 0, "reason": f"no such file: {missing[0]}"}
        for file in files:
            target.collection(collection).upsert(pq.read_table(file))
        return {"state": "Completed", "progress": 100}

    return imports


KINDS = {"memory": _memory, "grpc": _grpc, "rest": _rest}
ON_A_SERVER = [pytest.param(kind, marks=pytest.mark.server) for kind in ("grpc", "rest")]


@pytest.fixture(params=["memory", *ON_A_SERVER])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    (scratch := tmp_path / "scratch").mkdir()
    with KINDS[request.param](request, tmp_path / "staging") as (target, loader):
        yield Bench(target, loader, scratch)


def test_staged_parts_are_imported_into_a_collection_that_then_takes_the_real_name(bench: Bench, name: str) -> None:
    filling, parts = f"{name}_import", [part_of(["a", "b"]), part_of(["c", "d"], shard="s2", seed=1, price=[None, 0.5])]
    collection = bench.made(filling)
    bench.loader.check()
    assert bench.loader.takes(spec_of(name))
    files, upserts, cut = bench.staged(filling, "at/run", *parts)
    assert {state.state for state in bench.imported(filling, files)} == {"done"}
    for rows in bench.loader.staged_rows(upserts):
        collection.upsert(rows)
    collection.flush_and_index()
    deadline = time.monotonic() + SEEN_SECONDS
    while collection.count() != 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    identity = collection.identity()
    bench.loader.rename(filling, name)
    real = bench.target.collection(name)
    assert (cut, real.identity(), real.count(), bench.target.collection(filling).describe()) == (0, identity, 4, None)
    for part in parts:
        assert not real.compare(part).differences


def test_a_text_that_is_too_long_is_cut_and_counted(bench: Bench, name: str) -> None:
    bench.made(name)
    _, _, cut = bench.staged(name, "at/run", part_of(["a", "b"], text=["x" * 70_000, "short"]))
    assert cut == 1


def test_a_file_that_the_server_does_not_find_fails_its_job_with_a_reason(bench: Bench, name: str) -> None:
    bench.made(name)
    (state,) = bench.imported(name, ["nowhere/000000.parquet"])
    assert state.state == "failed"
    assert state.reason
    assert bench.target.collection(name).count() == 0


def test_a_name_that_is_taken_is_not_given_again(bench: Bench, name: str) -> None:
    one, two = bench.made(name), bench.made(f"{name}_2")
    before = (one.identity(), two.identity())
    with pytest.raises(Permanent):
        bench.loader.rename(f"{name}_2", name)
    assert (one.identity(), two.identity()) == before


def test_clearing_removes_what_one_attempt_has_staged_and_nothing_else(bench: Bench, name: str) -> None:
    bench.made(name)
    for prefix in ("at/run", "at/run2"):
        bench.staged(name, prefix, part_of(["a"], price=[None]))
    kept = bench.staged(name, "at/other", part_of(["a"], price=[float("nan")]))[1]
    for prefix in ("at/run", "at/run"):  # also where nothing is left
        bench.loader.clear(prefix)
    assert sum(rows.num_rows for rows in bench.loader.staged_rows(kept)) == len(kept)
    with pytest.raises(Permanent, match="missing"):
        list(bench.loader.staged_rows(["at/run/upsert-000000.parquet"]))
