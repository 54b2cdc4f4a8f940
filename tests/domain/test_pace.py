"""How large the next piece is."""

from __future__ import annotations

from tasks.domain.pace import FIRST_PIECE, LONGEST, SHORTEST, Pace
from tasks.domain.seal import EncodeStats, Part


def part(rows: int, seconds: float, key: str = "k") -> Part:
    return Part(key=key, first=0, stop=rows, rows=rows, bytes=0, sha256="", stats=EncodeStats(encode_seconds=seconds, tokens=2 * rows))


def test_a_piece_is_some_seconds_of_work() -> None:
    pace = Pace(ranks=1)
    assert pace.piece_rows == FIRST_PIECE
    pace.done(0, part(1000, 10))
    assert pace.piece_rows == 500


def test_a_piece_is_never_tiny_nor_huge() -> None:
    slow, fast = Pace(ranks=1), Pace(ranks=1)
    slow.done(0, part(1, 100))
    fast.done(0, part(10**6, 0.1))
    assert (slow.piece_rows, fast.piece_rows) == (SHORTEST, LONGEST)


def test_rows_in_hand_count_until_their_rank_is_gone() -> None:
    pace = Pace(ranks=2)
    pace.at(0, "a", 30)
    pace.at(1, "b", 12)
    assert pace.rows == 42
    pace.done(0, part(100, 1, "a"))
    pace.gone(1)
    assert (pace.rows, pace.tokens) == (100, 200)


def test_encoding_lasts_from_the_first_batch_to_the_last_part() -> None:
    pace = Pace(ranks=1)
    assert pace.seconds == 0
    pace.at(0, "a", 0)
    assert pace.seconds == 0
    pace.done(0, part(100, 1, "a"))
    first = pace.seconds
    pace.at(0, "b", 0)
    pace.done(0, part(100, 1, "b"))
    assert 0 < first <= pace.seconds
