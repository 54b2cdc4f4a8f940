"""How large the next piece is."""

from __future__ import annotations

from tasks.domain.encoding.throughput import FIRST_PIECE, LAST_ROWS, LONGEST_PIECE, SHORTEST_PIECE, Throughput
from tasks.domain.shards.seal import EncodeStats, Part


def part(rows: int, seconds: float, key: str = "k") -> Part:
    return Part(key=key, first=0, stop=rows, rows=rows, bytes=0, sha256="", stats=EncodeStats(encode_seconds=seconds, tokens=2 * rows))


def test_a_piece_is_some_seconds_of_work() -> None:
    pace = Throughput(ranks=1)
    assert pace.piece_rows == FIRST_PIECE
    pace.done(0, part(1000, 10))
    assert pace.piece_rows == 500


def test_a_piece_is_never_tiny_nor_huge() -> None:
    slow, fast = Throughput(ranks=1), Throughput(ranks=1)
    slow.done(0, part(1, 100))
    fast.done(0, part(10**6, 0.1))
    assert (slow.piece_rows, fast.piece_rows) == (SHORTEST_PIECE, LONGEST_PIECE)


def test_pieces_get_smaller_towards_the_end() -> None:
    pace, pieces = Throughput(ranks=2), []
    pace.expect(5_000)
    pace.done(0, part(1_000, 10))
    while sum(pieces) < 5_000:
        pieces.append(min(pace.piece_rows, 5_000 - sum(pieces)))
        pace.given(pieces[-1])
    assert pieces == sorted(pieces, reverse=True)
    assert (pieces[0], pieces[-2]) == (500, 100)  # five seconds, and one


def test_slow_ranks_end_together_too() -> None:
    pace = Throughput(ranks=2)
    pace.expect(200)
    pace.done(0, part(20, 100))
    assert pace.piece_rows == 50
    pace.given(190)
    assert pace.piece_rows == LAST_ROWS


def test_a_few_rows_are_shared_before_anything_is_known_of_a_rank() -> None:
    pace = Throughput(ranks=2)
    pace.expect(1_000)
    assert pace.piece_rows == 250


def test_more_rows_than_were_expected_are_cut_as_if_nobody_knew() -> None:
    pace = Throughput(ranks=2)
    pace.expect(100)
    pace.given(100)
    assert pace.piece_rows == FIRST_PIECE
    pace.given(1)
    assert pace.piece_rows == FIRST_PIECE
    pace.expect(None)
    pace.given(1)
    assert pace.piece_rows == FIRST_PIECE


def test_rows_in_hand_count_until_their_rank_is_gone() -> None:
    pace = Throughput(ranks=2)
    pace.at(0, "a", 30)
    pace.at(1, "b", 12)
    assert pace.rows == 42
    pace.done(0, part(100, 1, "a"))
    pace.gone(1)
    assert (pace.rows, pace.tokens) == (100, 200)


def test_encoding_lasts_from_the_first_batch_to_the_last_part() -> None:
    pace = Throughput(ranks=1)
    assert pace.seconds == 0
    pace.at(0, "a", 0)
    assert pace.seconds == 0
    pace.done(0, part(100, 1, "a"))
    first = pace.seconds
    pace.at(0, "b", 0)
    pace.done(0, part(100, 1, "b"))
    assert 0 < first <= pace.seconds


def test_rows_of_a_piece_that_is_being_stored_count_while_its_rank_is_at_the_next() -> None:
    pace, told = Throughput(ranks=1), []
    for step in (
        lambda: pace.at(0, "a", 100, 200),
        lambda: pace.at(0, "b", 0),
        lambda: pace.at(0, "b", 40, 80),
        lambda: pace.done(0, part(100, 1, "a")),
        lambda: pace.at(0, "b", 60, 120),
    ):
        step()
        told.append((pace.rows, pace.tokens, *pace.rows_by_rank))
    assert told == [(100, 200, 100), (100, 200, 100), (140, 280, 140), (140, 280, 140), (160, 320, 160)]
    pace.failed(0, "b")
    assert (pace.rows, pace.tokens, pace.rows_by_rank) == (100, 200, (100,))
