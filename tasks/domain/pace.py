"""How fast rows come out of the ranks, and from that how large the next piece should be."""

from __future__ import annotations

import threading

from tasks.domain.seal import Part

FIRST_PIECE = 512  # rows, before anything is known
SHORTEST, LONGEST = 128, 50_000
SECONDS_A_PIECE = 5.0  # a killed rank loses up to two pieces; each piece costs the writing of a part
WEIGHT = 0.5  # of the newest piece in the running rate


class Pace:
    """Counts of a run's encoding so far. Thread-safe; wall-clock free, so that a clock that jumps changes nothing."""

    def __init__(self, *, ranks: int) -> None:
        self.ranks = ranks
        self._lock = threading.Lock()
        self._rows = self._tokens = 0
        self._current: dict[int, tuple[str, int, int]] = {}
        self._rate: float | None = None  # rows per second of one rank

    def at(self, rank: int, key: str, done: int, tokens: int = 0) -> None:
        """A rank has encoded `done` rows of a piece, and their tokens."""
        with self._lock:
            self._current[rank] = (key, done, tokens)

    def done(self, rank: int, part: Part) -> None:
        """A part is in the store."""
        with self._lock:
            self._rows += part.rows
            self._tokens += part.stats.tokens
            if self._current.get(rank, ("", 0, 0))[0] == part.key:
                del self._current[rank]
            if part.rows and part.stats.encode_seconds > 0:
                rate = part.rows / part.stats.encode_seconds
                self._rate = rate if self._rate is None else WEIGHT * rate + (1 - WEIGHT) * self._rate

    def gone(self, rank: int) -> None:
        """A rank has left; what it was at does not count."""
        with self._lock:
            self._current.pop(rank, None)

    @property
    def rows(self) -> int:
        """Rows encoded, those of unfinished parts included."""
        with self._lock:
            return self._rows + sum(done for _, done, _ in self._current.values())

    @property
    def tokens(self) -> int:
        """Tokens encoded, those of unfinished parts included."""
        with self._lock:
            return self._tokens + sum(tokens for _, _, tokens in self._current.values())

    @property
    def piece_rows(self) -> int:
        """Rows for the next piece: some seconds of one rank's work."""
        with self._lock:
            wanted = FIRST_PIECE if self._rate is None else int(self._rate * SECONDS_A_PIECE)
        return max(SHORTEST, min(LONGEST, wanted))
