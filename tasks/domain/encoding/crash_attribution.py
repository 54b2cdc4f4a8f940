"""Find the row that crashed a rank: update a piece after the rank that encoded it died."""

from __future__ import annotations

from tasks.domain.encoding.protocol import Heartbeat, Piece

DEATHS_WITHOUT_A_CLUE = 3


def after_death(piece: Piece, at: Heartbeat | None) -> Piece:
    """Return the piece to hand out again.

    The first death may have any cause (a kill, the kernel short of memory), so the rows of the current batch only
    become suspects: the next rank encodes them one at a time. If a rank dies with a single suspect in its batch,
    that row is the cause, and this second death bars it.
    """
    if at is None or at.key != piece.key or not at.rows:
        return piece
    if len(at.rows) == 1 and at.rows[0] in piece.suspects:
        row = at.rows[0]
        return piece.model_copy(update={"barred": (*piece.barred, row), "suspects": tuple(r for r in piece.suspects if r != row)})
    return piece.model_copy(update={"suspects": tuple(sorted({*piece.suspects, *at.rows}))})
