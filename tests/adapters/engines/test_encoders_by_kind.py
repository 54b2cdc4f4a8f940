"""What everything does that turns pieces into parts: ranks, here as a thread with a real model, and servers over HTTP."""

from __future__ import annotations

import multiprocessing
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tasks.adapters.checkpoint.part_files import part_of, read_part
from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.engines.encoders_by_kind import open_encoders
from tasks.adapters.engines.workplace import open_workplace
from tasks.adapters.models.model_files import locate_model
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.coordinator import Coordinator
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.encoding.protocol import Piece
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.parse import parse_job
from tasks.domain.ports import Encoders
from tests.builders.engines.embedding_server import EmbeddingServer, embedding_server
from tests.builders.inprocess import ThreadRank
from tests.builders.kitestring import make_job, write_rows
from tests.builders.worker.coordinator import write_rows as write_piece


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        yield server


@pytest.fixture
def spec(tmp_path: Path, tiny_model: Path) -> EncodingSpec:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 5)
    job = parse_job(make_job(tmp_path, tiny_model, checkpoint=f"memory://{secrets.token_hex(8)}"))
    return EncodingSpec(run="run", job=job, fields=(), weights=locate_model(job.encoder).weights, declared="d" * 32)


@pytest.fixture(params=["ranks", "openai", "tei", "triton"])
def encoders(
    request: pytest.FixtureRequest, spec: EncodingSpec, tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Encoders]:
    monkeypatch.setattr(torchrun_encoders, "Coordinator", partial(Coordinator, start=ThreadRank))
    if request.param != "ranks":
        job = spec.job.model_copy(update={"encoder": parse_job({"encoder": server.settings(request.param)}).encoder})
        spec = spec.model_copy(update={"job": job, "weights": locate_model(job.encoder).weights})
    opened = open_encoders(open_workplace(spec, scratch=tmp_path, tell=lambda _: None))
    yield opened
    opened.close()


@pytest.fixture
def piece(tmp_path: Path) -> Callable[..., Piece]:
    def make(first: int, *texts: str) -> Piece:
        path = write_piece(tmp_path / f"{first}.arrow", first, {"text": list(texts)})
        return Piece(shard="s", name="a shard", first=first, stop=first + len(texts), rows=str(path), key=f"part-{first}.parquet")

    return make


def test_the_part_of_a_piece_is_in_the_store_as_it_is_told(encoders: Encoders, spec: EncodingSpec, piece: Callable[..., Piece]) -> None:
    parts = [encoders.submit(piece(first, "the one", "that was")) for first in (0, 10, 20)]
    for first, waiting in zip((0, 10, 20), parts, strict=True):
        part = waiting.result(60)
        data = open_store(spec.job.checkpoint).read(part.key)
        assert data is not None
        table, meta = read_part(data)
        assert part.model_copy(update={"stats": meta.stats}) == part_of(part.key, data, table, meta)
        assert (part.first, part.stop, part.rows) == (first, first + 2, 2)
        assert table.column_names == ["id", "vector", "text", "shard"]
        assert table["id"].to_pylist() == [f"r{first}", f"r{first + 1}"]
        assert len(table["vector"][0]) == encoders.facts().dim


def test_what_was_done_is_counted(encoders: Encoders, piece: Callable[..., Piece]) -> None:
    for first in (0, 10):
        encoders.submit(piece(first, "the one", "that was")).result(60)
    now = encoders.progress()
    assert (now.rows, sum(now.rows_by_rank), set(now.newest.values())) == (4, 4, {"a shard"})
    assert (sum(work.parts for work in now.work), sum(work.rows for work in now.work)) == (2, 4)


def test_a_piece_that_cannot_be_read_fails_alone(encoders: Encoders, piece: Callable[..., Piece]) -> None:
    bad = piece(0, "the one")
    Path(bad.rows).unlink()
    lost, good = encoders.submit(bad), encoders.submit(piece(10, "that was"))
    assert isinstance(lost.exception(60), Permanent)
    assert good.result(60).rows == 1


def test_pieces_that_come_after_a_release_are_done(encoders: Encoders, piece: Callable[..., Piece]) -> None:
    for first in (0, 10):
        assert encoders.submit(piece(first, "the one")).result(60).first == first
        encoders.release()


def test_who_is_closed_takes_no_piece(encoders: Encoders, piece: Callable[..., Piece]) -> None:
    encoders.close()
    encoders.close()
    with pytest.raises(Transient, match="closed"):
        encoders.submit(piece(0, "the one")).result(60)


def test_a_machine_with_another_model_is_refused(spec: EncodingSpec, tmp_path: Path) -> None:
    place = open_workplace(spec.model_copy(update={"weights": "others"}), scratch=tmp_path, tell=lambda _: None)
    with pytest.raises(BadInput, match="differ from those that the run began with"):
        open_encoders(place)


def test_a_machine_whose_processes_can_share_no_lock_is_refused_by_the_place(
    spec: EncodingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing.get_context("fork"), "Lock", refuse)
    with pytest.raises(BadInput, match=r"^/dev/shm, .* \(\[Errno 30\] Read-only file system\): mount it writable"):
        open_encoders(open_workplace(spec, scratch=tmp_path, tell=lambda _: None))
