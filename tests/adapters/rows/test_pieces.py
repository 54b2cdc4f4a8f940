"""Rows into pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.rows.builder import Prepared
from tasks.adapters.rows.pieces import PieceRows, Tally, cut_pieces


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
