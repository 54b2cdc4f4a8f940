"""Rows into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.rows import pieces as cutting
from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.pieces import PieceRows, Tally, cut_pieces
from tasks.adapters.rows.row_schema import TAKEN_VECTOR


def prepared(kept: list[bool], chunk: int) -> Iterator[Prepared]:
    """Source rows in chunks; those that are not kept are duplicates."""
    for begin in range(0, len(kept), chunk):
        rows = [at for at in range(begin, min(begin + chunk, len(kept))) if kept[at]]
        seen = min(chunk, len(kept) - begin)
        batch = pa.record_batch({"row": pa.array(rows, pa.int64())})
        yield Prepared(batch=batch, seen=seen, duplicates=seen - len(rows), quarantined=[])


def pieces_of(kept: list[bool], chunk: int, sizes: Callable[[], int], covered: list[tuple[int, int]]) -> tuple[list[PieceRows], Tally]:
    tally = Tally()
    return list(cut_pieces(prepared(kept, chunk), tally, covered=covered, piece_rows=sizes)), tally


@given(
    st.lists(st.booleans(), max_size=80),
    st.integers(1, 30),
    st.lists(st.integers(1, 20), min_size=1),
    st.sets(st.integers(0, 80), max_size=6),
)
def test_every_row_that_is_not_covered_is_in_one_piece(kept: list[bool], chunk: int, sizes: list[int], edges: set[int]) -> None:
    ends = sorted(edges)
    covered = list(zip(ends[::2], ends[1::2], strict=False))
    asked: list[int] = []

    def size() -> int:
        asked.append(sizes[len(asked) % len(sizes)])
        return asked[-1]

    pieces, tally = pieces_of(kept, chunk, size, covered)
    assert tally.seen == len(kept)
    assert tally.duplicates == kept.count(False)
    held = [row for piece in pieces for batch in piece.batches for row in batch.column("row").to_pylist()]
    assert held == [at for at, keep in enumerate(kept) if keep and not any(first <= at < stop for first, stop in covered)]
    for piece in pieces:
        assert piece.rows <= max(sizes)
        rows = [row for batch in piece.batches for row in batch.column("row").to_pylist()]
        assert piece.rows == len(rows)
        assert piece.first <= rows[0]
        assert rows[-1] < piece.stop


def test_each_piece_asks_for_its_own_size() -> None:
    sizes = iter([4, 3, 2, 1, 1, 1, 1])
    pieces, _ = pieces_of([True] * 11, 8, lambda: next(sizes), [])
    assert [piece.rows for piece in pieces] == [4, 3, 2, 1, 1]


DIM = 4


def with_vectors(rows: int, chunk: int, *, new: int) -> Iterator[Prepared]:
    """Rows that have a vector already, but for each `new`-th one."""
    for begin in range(0, rows, chunk):
        at = range(begin, min(begin + chunk, rows))
        vectors = pa.array([None if row % new == 0 else [float(row)] * DIM for row in at], pa.list_(pa.float32()))
        batch = pa.record_batch({"row": pa.array(at, pa.int64()), TAKEN_VECTOR: vectors})
        yield Prepared(batch=batch, seen=len(at), quarantined=[])


@pytest.mark.parametrize("chunk", [7, 1_000])
@pytest.mark.parametrize("rows", [100, 1_000])
def test_vectors_that_are_taken_over_are_in_pieces_of_a_size_that_no_shard_changes(
    monkeypatch: pytest.MonkeyPatch, rows: int, chunk: int
) -> None:
    monkeypatch.setattr(cutting, "LARGEST_TAKEN", 20 * 4 * (DIM + 1))
    pieces = list(cut_pieces(with_vectors(rows, chunk, new=50), Tally(), covered=[], piece_rows=lambda: 10_000))
    assert [row for piece in pieces for batch in piece.batches for row in batch.column("row").to_pylist()] == [*range(rows)]
    assert max(piece.taken_bytes for piece in pieces) <= 21 * 4 * (DIM + 1)  # the last row may pass the bound
    assert len(pieces) <= rows / 20 * 1.25  # and they are as large as they may be
    assert np.concatenate([piece.taken_rows()[TAKEN_VECTOR].combine_chunks().flatten().to_numpy() for piece in pieces]).tolist() == [
        float(row) for row in range(rows) if row % 50 for _ in range(DIM)
    ]
