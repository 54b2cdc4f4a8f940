"""Which row crashed a rank: what is known about a piece after the rank that encoded it died."""

from __future__ import annotations

from tasks.domain.encoding.protocol import Heartbeat, Piece

DEATHS_WITHOUT_A_CLUE = 3


def after_death(piece: Piece, at: Heartbeat | None) -> Piece:
    """The piece as it is given out again.

    The first death may be anything (a kill, the kernel short of memory), so the rows in hand are only
    suspected: the next rank takes them one at a time. A rank that dies with one suspect alone in hand has
    shown which row it is: the second death bars it.
    """
    if at is None or at.key != piece.key or not at.rows:
        return piece
    if len(at.rows) == 1 and at.rows[0] in piece.suspects:
        row = at.rows[0]
        return piece.model_copy(update={"barred": (*piece.barred, row), "suspects": tuple(r for r in piece.suspects if r != row)})
    return piece.model_copy(update={"suspects": tuple(sorted({*piece.suspects, *at.rows}))})
