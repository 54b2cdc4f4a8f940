"""One piece through the encoder, without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tasks.domain.encoding.protocol import Heartbeat, Piece
from tasks.domain.errors import Permanent
from tasks.worker.base import Batch
from tasks.worker.pipeline.fault_isolation import FaultIsolatingRunner
from tasks.worker.pipeline.piece_encoder import EncodedPiece, PieceEncoder
from tasks.worker.pipeline.piece_reader import PreparedPiece, read_rows
from tasks.worker.system.signals import ShutdownSignal
from tests.builders.worker.coordinator import write_rows
from tests.builders.worker.fakes import FakeEncoder, FakeWork


def ready(scratch: Path, texts: list[str], *, first: int = 100, ahead: int = 0, **settings: object) -> PreparedPiece:
    path = write_rows(scratch / "rows.arrow", first, {"text": texts})
    given = {"shard": "s", "first": first, "stop": first + len(texts), "rows": str(path), "key": "k", **settings}
    piece = Piece.model_validate(given)
    rows, barred = read_rows(piece)
    work = FakeEncoder().prepare(rows)
    work.ahead = ahead
    return PreparedPiece(piece=piece, rows=rows, work=work, barred=barred)


def encode(work: PreparedPiece, notice: ShutdownSignal | None = None) -> tuple[EncodedPiece | None, list[Heartbeat]]:
    said: list[Heartbeat] = []
    pieces = PieceEncoder(FaultIsolatingRunner(FakeEncoder().encode), 2, said.append, (notice or ShutdownSignal()).allows)
    return pieces.encode(work), said


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64])
def test_any_number_of_rows_comes_out_in_the_sources_order(tmp_path: Path, count: int) -> None:
    encoded, _ = encode(ready(tmp_path, ["x" * (n % 5) for n in range(count)]))
    assert encoded is not None
    assert encoded.vectors.shape == (count, 2)
    assert encoded.vectors[:, 0].tolist() == [n % 5 for n in range(count)]
    assert encoded.kept.all()


def test_rows_that_cannot_be_embedded_leave_no_vector_and_keep_their_reason(tmp_path: Path) -> None:
    encoded, _ = encode(ready(tmp_path, ["a", "boom", "ccc", "unreadable", "eeeee"]))
    assert encoded is not None
    assert encoded.vectors[:, 0].tolist() == [1, 3, 5]
    assert encoded.kept.tolist() == [True, False, True, False, True]
    assert [(q.row, q.id, q.reason) for q in encoded.quarantined] == [
        (101, "r101", "encoder: boom"),
        (103, "r103", "undecodable image: no picture"),
    ]


def test_a_piece_of_barred_rows_alone_is_a_part_without_rows(tmp_path: Path) -> None:
    encoded, said = encode(ready(tmp_path, ["a", "b"], barred=(100, 101)))
    assert encoded is not None
    assert encoded.vectors.shape == (0, 2)
    assert [q.row for q in encoded.quarantined] == [100, 101]
    assert not said


def test_rows_are_told_by_their_place_in_the_source(tmp_path: Path) -> None:
    _, said = encode(ready(tmp_path, ["x"] * 6, suspects=(104,), barred=(101,)))
    assert [at.rows for at in said] == [(104,), (100, 102, 103, 105)]
    assert [at.done for at in said] == [0, 1]


def test_what_helpers_may_be_at_is_in_hand_too(tmp_path: Path) -> None:
    _, said = encode(ready(tmp_path, ["x"] * 12, ahead=1))
    assert [len(at.rows) for at in said] == [8, 8, 4]


def test_a_rank_that_has_to_leave_drops_what_it_could_not_finish(tmp_path: Path) -> None:
    notice = ShutdownSignal()
    notice.request(0)
    assert encode(ready(tmp_path, ["x"] * 12), notice)[0] is None


def test_a_rank_that_has_to_leave_finishes_what_it_can(tmp_path: Path) -> None:
    notice = ShutdownSignal()
    notice.request(20)
    encoded, _ = encode(ready(tmp_path, ["x"] * 12), notice)
    assert encoded is not None
    assert len(encoded.vectors) == 12


def test_rows_that_are_gone_from_scratch_fail_the_piece_by_name(tmp_path: Path) -> None:
    piece = Piece(shard="s", first=3, stop=9, rows=str(tmp_path / "gone"), key="k")
    with pytest.raises(Permanent, match="rows 3-8 of shard s"):
        read_rows(piece)


def test_vectors_are_not_copied_where_every_row_has_one(tmp_path: Path) -> None:
    encoded, _ = encode(ready(tmp_path, ["x"] * 4))
    assert encoded is not None
    assert encoded.vectors.base is None
    assert encoded.vectors.dtype == np.float32


def test_what_the_model_was_given_counts_the_padding(tmp_path: Path) -> None:
    encoded, _ = encode(ready(tmp_path, ["x" * length for length in (1, 2, 3, 4, 5, 5, 5, 5, 7)]))
    assert encoded is not None
    assert encoded.padded == 4 * 4 + 4 * 5 + 7


def test_a_rank_is_heard_of_while_rows_come_in_slowly_and_not_while_none_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many pictures of a slow store; and one that hangs its decoder."""
    monkeypatch.setattr("tasks.worker.pipeline.coordinator_client.HEARTBEAT_SECONDS", 0.02)
    work = ready(tmp_path, ["a"])

    class Slow(FakeWork):
        def load(self, batches: Sequence[list[int]], *, alone: bool) -> Iterator[Batch]:
            for number in range(1, 6):
                self.loaded = number
                time.sleep(0.1)
            time.sleep(0.5)
            yield from super().load(batches, alone=alone)

    slow = Slow(["a"], [1], loaded=0)
    encoded, said = encode(PreparedPiece(piece=work.piece, rows=work.rows, work=slow, barred=()))
    assert encoded is not None
    assert {at.rows for at in said} == {(100,)}
    assert 4 <= len(said) <= 6
