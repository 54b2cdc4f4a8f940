"""What is known of a piece after its rank died."""

from __future__ import annotations

from tasks.domain.encoding.crash_attribution import after_death
from tasks.domain.encoding.protocol import Heartbeat, Piece

PIECE = Piece(shard="s", first=0, stop=10, rows="", key="k")


def at(*rows: int, key: str = "k") -> Heartbeat:
    return Heartbeat(key=key, rows=rows, done=0)


def test_the_first_death_makes_suspects_of_the_rows_in_hand() -> None:
    assert after_death(PIECE, at(3, 4)).suspects == (3, 4)


def test_a_suspect_alone_in_hand_is_barred() -> None:
    after = after_death(after_death(PIECE, at(3, 4)), at(4))
    assert (after.suspects, after.barred) == ((3,), (4,))


def test_a_single_row_that_was_not_suspected_is_only_suspected() -> None:
    assert after_death(PIECE, at(4)).barred == ()


def test_a_death_elsewhere_tells_nothing() -> None:
    assert after_death(PIECE, None) == PIECE
    assert after_death(PIECE, at(1, key="another")) == PIECE
