"""How speed grows with ranks: measured, and as two laws have it.

Amdahl 1967: of the same work a share s cannot be divided, so N ranks are 1 / (s + (1 - s) / N) times as fast.
Gustafson 1988: of work that grows with the ranks a share s is done by one, so N ranks do N - s (N - 1) times as much in the same time.
Both shares are fitted by least squares, the first in the reciprocal of the speed-up, where the law is a line.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks.domain.strict import Strict


class ScalePoint(Strict):
    """One number of ranks. Seconds are from the first piece to the last part, once all ranks are warm."""

    ranks: int = Field(ge=1)
    threads: int = Field(ge=1)
    rows: int
    seconds: float = Field(description="Of the same rows, whatever the number of ranks.")
    grown_rows: int = Field(0, description="As many times the rows as there are ranks; 0: not measured.")
    grown_seconds: float = 0.0
    memory: int = 0

    @property
    def grown_rate(self) -> float:
        """Rows of the larger work in a second."""
        return self.grown_rows / self.grown_seconds if self.grown_seconds else 0.0


class ScalingResult(Strict):
    """Points by number of ranks, one rank first, and the shares that the two laws fit to them."""

    corpus: str
    machine: str
    device: str
    points: tuple[ScalePoint, ...]
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def speed_ups(self) -> list[tuple[int, float]]:
        """Ranks, and how many times as fast as one they did the same rows."""
        alone = self.points[0].seconds if self.points else 0.0
        return [(point.ranks, alone / point.seconds) for point in self.points]

    @property
    def grown_speed_ups(self) -> list[tuple[int, float]]:
        """Ranks, and how many times as many rows as one they did in a second, of work that grew with them."""
        known = [point for point in self.points if point.grown_rate]
        return [(point.ranks, point.grown_rate / known[0].grown_rate) for point in known]

    @property
    def amdahl(self) -> float | None:
        """The share that cannot be divided; None: one point fits every share."""
        return amdahl_share(self.speed_ups)

    @property
    def gustafson(self) -> float | None:
        """The share that one rank does while the others wait; likewise."""
        return gustafson_share(self.grown_speed_ups)


def amdahl_share(speed_ups: Sequence[tuple[int, float]]) -> float | None:
    """1 / S - 1 / N = s (1 - 1 / N), a line through the origin."""
    return _slope([(1 - 1 / ranks, 1 / speed - 1 / ranks) for ranks, speed in speed_ups])


def gustafson_share(speed_ups: Sequence[tuple[int, float]]) -> float | None:
    """N - S = s (N - 1), likewise."""
    return _slope([(ranks - 1.0, ranks - speed) for ranks, speed in speed_ups])


def amdahl(share: float, ranks: int) -> float:
    """The speed-up that Amdahl's law gives."""
    return 1 / (share + (1 - share) / ranks)


def gustafson(share: float, ranks: int) -> float:
    """The speed-up that Gustafson's law gives."""
    return ranks - share * (ranks - 1)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    weight = sum(x * x for x, _ in points)
    return min(1.0, max(0.0, sum(x * y for x, y in points) / weight)) if weight else None
