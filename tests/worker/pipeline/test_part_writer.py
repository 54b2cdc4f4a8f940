"""Parts on their way to the store, without a model: whose trouble is told as whose."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.adapters.object_store.memory_store import MemoryStore
from tasks.domain.encoding.protocol import Assignment, Done, Fault, Piece, Storing
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.domain.job.job import Compute
from tasks.worker.encoding_errors import Fatal
from tasks.worker.pipeline.part_writer import PartWriter
from tasks.worker.pipeline.piece_encoder import EncodedPiece
from tasks.worker.pipeline.piece_reader import FailedPiece, PieceReader, PreparedPiece, read_rows
from tasks.worker.pipeline.rank import Rank
from tasks.worker.system.signals import ShutdownSignal
from tests.builders.worker.coordinator import Heard, write_rows
from tests.builders.worker.fakes import FakeEncoder


class Spoken:
    """A wire that nobody is at the end of."""

    def __init__(self) -> None:
        self.said: list[Heard] = []

    def send(self, message: Heard) -> None:
        self.said.append(message)

    def told(self, key: str) -> Done | Fault:
        [told] = [m for m in self.said if (isinstance(m, Fault) and m.key == key) or (isinstance(m, Done) and m.part.key == key)]
        assert isinstance(told, Done | Fault)
        return told


class Odd(Exception):
    """Of a type that nobody has thought of."""


class OddStore(MemoryStore):
    def write(self, key: str, data: bytes | Path) -> None:
        if key == "first":
            raise Odd("http://user:secret@host answered\nin riddles")
        super().write(key, data)


def encoded(scratch: Path, key: str, vectors: int = 1) -> EncodedPiece:
    path = write_rows(scratch / f"{key}.arrow", 0, {"text": ["x"]})
    piece = Piece(shard="s", first=0, stop=1, rows=str(path), key=key)
    rows, barred = read_rows(piece)
    ready = PreparedPiece(piece=piece, rows=rows, work=FakeEncoder().prepare(rows), barred=barred)
    kept = np.ones(1, dtype=bool)
    return EncodedPiece(
        ready=ready, kept=kept, vectors=np.ones((vectors, 2), dtype=np.float32), quarantined=(), encode_seconds=0.1, padded=1
    )


def test_an_upload_that_fails_in_an_unforeseen_way_is_told_of_its_own_piece(tmp_path: Path) -> None:
    wire = Spoken()
    writer = PartWriter(wire, OddStore("odd"), (), store_text=True)
    writer.put(encoded(tmp_path, "first"))
    writer.put(encoded(tmp_path, "second"))
    writer.drain()
    fault = wire.told("first")
    assert isinstance(fault, Fault)
    assert fault.leaf == "transient"
    assert fault.text == "cannot write the part to the checkpoint: Odd: http://host answered"
    assert isinstance(wire.told("second"), Done)


def test_a_part_that_cannot_be_made_is_told_of_its_own_piece_and_not_tried_again(tmp_path: Path) -> None:
    wire = Spoken()
    writer = PartWriter(wire, MemoryStore("made"), (), store_text=True)
    writer.put(encoded(tmp_path, "first", vectors=3))
    writer.put(encoded(tmp_path, "second"))
    writer.drain()
    fault = wire.told("first")
    assert isinstance(fault, Fault)
    assert (fault.leaf, fault.text.partition(":")[0]) == ("permanent", "cannot write the part")
    assert isinstance(wire.told("second"), Done)


def test_a_rank_is_heard_of_as_long_as_its_part_is_on_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.worker.pipeline.coordinator_client.HEARTBEAT_SECONDS", 0.01)
    wire, answers = Spoken(), threading.Event()

    class SlowStore(MemoryStore):
        def write(self, key: str, data: bytes | Path) -> None:
            assert answers.wait(20)

    writer = PartWriter(wire, SlowStore("slow"), (), store_text=True)
    writer.put(encoded(tmp_path, "first"))
    until = time.monotonic() + 20
    while len(wire.said) < 5 and time.monotonic() < until:
        time.sleep(0.01)
    assert wire.said[:5] == [Storing(key="first")] * 5
    answers.set()
    writer.drain()
    assert isinstance(wire.said[-1], Done)
    told = len(wire.said)
    time.sleep(0.05)
    assert len(wire.said) == told


@pytest.fixture
def rank() -> tuple[Rank, Spoken]:
    wire = Spoken()
    assignment = Assignment(
        encoder=SentenceTransformersEncoder(),
        model_path="",
        modality="text",
        precision="float32",
        compute=Compute(),
        store="",
        fields=(),
        store_text=True,
        socket="",
    )
    return Rank(wire, FakeEncoder(), MemoryStore("rank"), assignment, ShutdownSignal()), wire


@pytest.mark.parametrize(
    ("error", "leaf"), [(Odd("riddles"), "permanent"), (MemoryError(), "transient"), (type("Panic", (BaseException,), {})(), "permanent")]
)
def test_rows_that_cannot_be_made_ready_are_told_of_their_own_piece(
    rank: tuple[Rank, Spoken], tmp_path: Path, error: BaseException, leaf: str
) -> None:
    """A death over them would be put down to the piece before, which is on its way to the store."""
    ranked, wire = rank
    ranked._process(FailedPiece(piece=Piece(shard="s", first=0, stop=1, rows=str(tmp_path), key="k"), error=error))
    [fault] = wire.said
    assert isinstance(fault, Fault)
    assert (fault.key, fault.leaf) == ("k", leaf)
    assert fault.text.startswith(f"cannot prepare the rows: {type(error).__name__}")


def test_a_broken_device_ends_the_rank_whoever_meets_it(rank: tuple[Rank, Spoken]) -> None:
    with pytest.raises(Fatal):
        rank[0]._process(FailedPiece(piece=Piece(shard="s", first=0, stop=1, rows="", key="k"), error=Fatal("broken")))


def test_a_rank_that_cannot_hear_the_coordinator_leaves(rank: tuple[Rank, Spoken], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its main thread would wait for work for ever."""
    left: list[int] = []
    monkeypatch.setattr("tasks.worker.pipeline.piece_reader.os._exit", left.append)

    class Garbled(Spoken):
        def listen(self) -> Iterator[Piece]:
            raise ValueError("not a message")

    PieceReader(Garbled(), FakeEncoder())._listen()
    assert left == [1]
