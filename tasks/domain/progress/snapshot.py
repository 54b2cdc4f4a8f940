"""A snapshot of a run, for the terminal, the artifacts and the log."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.domain.encoding.encoding_progress import EncodingProgress

MOST_ESTIMATED = 0.99  # highest share shown if the number of rows is an estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The progress of a stage that counts something else than encoded rows."""

    what: str  # "rows compared", "shards"
    done: int
    total: int
    seconds: float  # since it began

    @property
    def rate(self) -> float:
        """Items per second; 0 at the start."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A run at one moment. `total`: the rows of the shards that this run has to process; None if files do not state them.

    `expected`: an estimate of that number; None before there is one.
    """

    stage: str
    seconds: float
    total: int | None
    reused: int
    encoded: int
    tokens: int
    loaded: int
    shards: int
    shards_sealed: int
    shards_loaded: int
    shards_failed: int
    shards_before: int = 0  # complete when the run began
    encoding: EncodingProgress = field(default_factory=EncodingProgress)
    failed: tuple[tuple[str, str], ...] = ()  # the first shards that failed, and why
    slowest: tuple[tuple[float, str, int], ...] = ()  # seconds of the ranks, the shard's name, its rows; the slowest first
    ended: bool = False
    waits_for: str = ""
    expected: int | None = None
    listing: bool = False  # whether the source is still being listed: `expected` is then a lower bound
    counted: Counted | None = None  # set if the current stage counts something else
    cached: int = 0  # part of `reused`: rows with vectors from the cache
    quarantined: int = 0  # of the shards that this run sealed
    duplicates: int = 0  # of the same shards
    removed: int = 0  # rows that left the collection
    stages: dict[str, float] = field(default_factory=dict)  # seconds in which each was active

    @property
    def bytes(self) -> int:
        """Bytes of the parts that ranks have written."""
        return sum(work.bytes for work in self.encoding.work)

    @property
    def bar(self) -> tuple[int, int | None]:
        """The values of a progress bar: (done, total); total is None if unknown."""
        return (self.counted.done, self.counted.total) if self.counted else (self.done, self.goal or None)

    @property
    def goal(self) -> int | None:
        """The final value of `done`: exact, or else estimated."""
        return self.total if self.total is not None or self.expected is None else max(self.expected, self.done)

    @property
    def share(self) -> float:
        """The share of rows that are done, 0 to 1; below 1 until the end if their number is an estimate."""
        if self.total == 0 or (self.total is None and self.ended):
            return 1.0
        share = min(1.0, self.done / self.goal) if self.goal else 0.0
        return share if self.total else min(share, MOST_ESTIMATED)

    @property
    def of_rows(self) -> str:
        """Progress as text: 3 of 10, 3 of about 10, or 3 of at least 10."""
        about = "" if self.total is not None else "at least " if self.listing else "about "
        return f"{self.done:,}" if self.goal is None else f"{self.done:,} of {about}{self.goal:,}"

    @property
    def phase(self) -> str:
        """The stage; `start-up` while `encode` waits for the encoder to load."""
        loading = self.stage == "encode" and not self.encoded and not self.encoding.startup
        return "start-up" if loading else self.stage

    @property
    def done(self) -> int:
        """Rows out of `total` that are encoded, by this run or by an earlier one."""
        return self.encoded + self.reused


class RateMeter:
    """Rows per second since the first encoded row, so that start-up does not lower the rate; 0 outside encode and load."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def of(self, now: Snapshot) -> float:
        if not now.encoded:
            return 0.0
        self._first = self._first or (now.seconds, now.encoded)
        seconds = now.seconds - self._first[0]
        working = now.phase in {"encode", "load"}
        return (now.encoded - self._first[1]) / seconds if working and seconds > 0 else 0.0
