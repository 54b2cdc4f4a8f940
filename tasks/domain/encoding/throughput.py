"""Measure the throughput of the ranks, and derive the size of the next piece from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from tasks.domain.encoding.encoding_progress import EncodingProgress, UnderWay, rank_name
from tasks.domain.report.figures import RankWork
from tasks.domain.shards.seal import Part

FIRST_PIECE = 512  # rows, before a rate is known
SHORTEST_PIECE, LONGEST_PIECE = 128, 50_000
SECONDS_A_PIECE = 5.0  # a killed rank loses up to two pieces; each piece costs the writing of a part
# Towards the end pieces shrink, so that all ranks finish together: a share of the remaining rows ("guided self-scheduling",
# Polychronopoulos and Kuck 1987), down to about a second. Smaller pieces pad more, which would cost what they gain.
SHARES_OF_THE_REST = 2  # for each rank
LAST_SECONDS, LAST_ROWS = 1.0, 16
WEIGHT = 0.5  # of the newest piece in the moving average of the rate


class Throughput:
    """Counts of a run's encoding so far. Thread-safe. Uses the monotonic clock, so jumps of the wall clock do not matter."""

    def __init__(self, *, ranks: int) -> None:
        self.ranks = ranks
        self._lock = threading.Lock()
        self._rows = self._tokens = 0
        self._current: dict[int, dict[str, tuple[int, int]]] = {}  # by rank and piece: rows and tokens that are not in a part yet
        self._work: dict[int, RankWork] = {}
        self._memory: dict[str, int] = {}
        self._rate: float | None = None  # rows per second of one rank
        self._left: int | None = None  # source rows that are not in a piece yet
        self._began: float | None = None
        self._ended = 0.0

    def expect(self, rows: int | None) -> None:
        """Set the number of source rows to encode; None: unknown."""
        with self._lock:
            self._left = rows

    def given(self, rows: int) -> None:
        """Subtract rows that were cut into a piece or were found to be encoded already."""
        with self._lock:
            self._left = None if self._left is None else self._left - rows

    def at(self, rank: int, key: str, done: int, tokens: int = 0) -> None:
        """Record that a rank has encoded `done` rows of a piece with `tokens` tokens. A previous piece counts while it is being stored."""
        with self._lock:
            self._began = self._began or time.monotonic()
            self._current.setdefault(rank, {})[key] = (done, tokens)

    def done(self, rank: int, part: Part, *, padded: int = 0, halved: int = 0, memory: Mapping[str, int] | None = None) -> None:
        """Record that a part is in the store.

        Args:
            rank: the rank that made it.
            part: the part.
            padded: its tokens, with padding.
            halved: batches of it that did not fit into memory.
            memory: peak bytes of the rank so far, by kind.
        """
        with self._lock:
            self._ended = time.monotonic()
            self._rows += part.rows
            self._tokens += part.stats.tokens
            self._work[rank] = _more(self._work.get(rank) or RankWork(rank=rank), part, padded, halved)
            for kind, size in (memory or {}).items():
                name = f"{rank_name(rank)}{kind and ', '}{kind}"
                self._memory[name] = max(size, self._memory.get(name, 0))
            self._current.get(rank, {}).pop(part.key, None)
            if part.rows and part.stats.encode_seconds > 0:
                rate = part.rows / part.stats.encode_seconds
                self._rate = rate if self._rate is None else WEIGHT * rate + (1 - WEIGHT) * self._rate

    def failed(self, rank: int, key: str) -> None:
        """Record that a piece failed: its rows no longer count."""
        with self._lock:
            self._current.get(rank, {}).pop(key, None)

    def gone(self, rank: int) -> None:
        """Record that a rank has left: the rows of its unfinished pieces no longer count."""
        with self._lock:
            self._current.pop(rank, None)

    @property
    def rows(self) -> int:
        """Encoded rows, including those of unfinished parts."""
        with self._lock:
            return self._rows + sum(rows for rows, _ in self._in_hand())

    @property
    def tokens(self) -> int:
        """Encoded tokens, including those of unfinished parts."""
        with self._lock:
            return self._tokens + sum(tokens for _, tokens in self._in_hand())

    def _in_hand(self) -> Iterator[tuple[int, int]]:
        """Yield rows and tokens of each piece that is not a part yet."""
        return chain.from_iterable(pieces.values() for pieces in self._current.values())

    @property
    def seconds(self) -> float:
        """Seconds from the first batch of any rank to the last part; 0 before the first part."""
        with self._lock:
            return max(0.0, self._ended - self._began) if self._began is not None else 0.0

    @property
    def rows_by_rank(self) -> tuple[int, ...]:
        """Encoded rows of each rank, rank 0 first."""
        with self._lock:
            counts = {rank: work.rows for rank, work in self._work.items()}
            for rank, pieces in self._current.items():
                counts[rank] = counts.get(rank, 0) + sum(rows for rows, _ in pieces.values())
        return tuple(counts.get(rank, 0) for rank in range(max(counts, default=-1) + 1))

    @property
    def work(self) -> tuple[RankWork, ...]:
        """What each rank has stored."""
        with self._lock:
            return tuple(self._work[rank] for rank in sorted(self._work))

    @property
    def memory(self) -> dict[str, int]:
        """The peak memory of each rank in bytes, as reported with its last part."""
        with self._lock:
            return dict(sorted(self._memory.items()))

    def progress(
        self, *, under_way: Sequence[UnderWay], newest: Mapping[int, str], startup: Mapping[str, float], waits_for: str = ""
    ) -> EncodingProgress:
        """Return all of this as one value, together with what only the caller knows."""
        return EncodingProgress(
            rows=self.rows,
            tokens=self.tokens,
            seconds=self.seconds,
            rows_by_rank=self.rows_by_rank,
            work=self.work,
            newest={rank_name(rank): shard for rank, shard in newest.items()},
            under_way=tuple(under_way),
            memory=self.memory,
            startup=dict(startup),
            waits_for=waits_for,
        )

    @property
    def piece_rows(self) -> int:
        """Rows for the next piece: some seconds of one rank's work, fewer when little is left."""
        with self._lock:
            rate, left = self._rate, self._left
        rows = FIRST_PIECE if rate is None else max(SHORTEST_PIECE, min(LONGEST_PIECE, int(rate * SECONDS_A_PIECE)))
        if not left or left < 0:  # more rows than expected, as when shards are retried
            return rows
        least = SHORTEST_PIECE if rate is None else max(LAST_ROWS, min(SHORTEST_PIECE, int(rate * LAST_SECONDS)))
        return min(rows, max(least, left // (SHARES_OF_THE_REST * self.ranks)))


def _more(work: RankWork, part: Part, padded: int, halved: int) -> RankWork:
    stats = part.stats
    return RankWork(
        rank=work.rank,
        parts=work.parts + 1,
        rows=work.rows + part.rows,
        bytes=work.bytes + part.bytes,
        tokens=work.tokens + stats.tokens,
        padded=work.padded + padded,
        halved=work.halved + halved,
        tokenize_seconds=work.tokenize_seconds + stats.tokenize_seconds,
        encode_seconds=work.encode_seconds + stats.encode_seconds,
        write_seconds=work.write_seconds + stats.write_seconds,
    )
