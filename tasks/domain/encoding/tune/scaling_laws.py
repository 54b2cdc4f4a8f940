"""Scaling with the number of ranks: measured, and fitted with two laws.

Amdahl 1967: a share s of a fixed amount of work is serial, so N ranks are 1 / (s + (1 - s) / N) times as fast.
Gustafson 1988: one rank does a share s of work that grows with the ranks, so N ranks do N - s (N - 1) times as much in the same time.
Both shares are fitted by least squares, Amdahl's to the reciprocal of the speed-up, in which the law is linear.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks.domain.strict import Strict


class ScalePoint(Strict):
    """The measurement of one number of ranks. Seconds are from the first piece to the last part, once all ranks are warm."""

    ranks: int = Field(ge=1)
    threads: int = Field(ge=1)
    rows: int
    seconds: float = Field(description="For `rows`, which are the same for every number of ranks.")
    grown_rows: int = Field(0, description="Rows times ranks; 0: not measured.")
    grown_seconds: float = 0.0
    memory: int = 0

    @property
    def grown_rate(self) -> float:
        """Rows per second of the grown work."""
        return self.grown_rows / self.grown_seconds if self.grown_seconds else 0.0


class ScalingResult(Strict):
    """Points by number of ranks, one rank first, and the fitted shares of both laws."""

    corpus: str
    machine: str
    device: str
    points: tuple[ScalePoint, ...]
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    @property
    def speed_ups(self) -> list[tuple[int, float]]:
        """(ranks, speed-up over one rank) for the same rows."""
        alone = self.points[0].seconds if self.points else 0.0
        return [(point.ranks, alone / point.seconds) for point in self.points]

    @property
    def grown_speed_ups(self) -> list[tuple[int, float]]:
        """(ranks, rows per second relative to one rank) for work that grew with the ranks."""
        measured = [point for point in self.points if point.grown_rate]
        return [(point.ranks, point.grown_rate / measured[0].grown_rate) for point in measured]

    @property
    def amdahl(self) -> float | None:
        """The serial share; None: a single point fits any share."""
        return amdahl_share(self.speed_ups)

    @property
    def gustafson(self) -> float | None:
        """The share that one rank does while the others wait; None: a single point fits any share."""
        return gustafson_share(self.grown_speed_ups)


def amdahl_share(speed_ups: Sequence[tuple[int, float]]) -> float | None:
    """Fit 1 / S - 1 / N = s (1 - 1 / N), a line through the origin."""
    return _slope([(1 - 1 / ranks, 1 / speed - 1 / ranks) for ranks, speed in speed_ups])


def gustafson_share(speed_ups: Sequence[tuple[int, float]]) -> float | None:
    """Fit N - S = s (N - 1), a line through the origin."""
    return _slope([(ranks - 1.0, ranks - speed) for ranks, speed in speed_ups])


def amdahl(share: float, ranks: int) -> float:
    """Return the speed-up by Amdahl's law."""
    return 1 / (share + (1 - share) / ranks)


def gustafson(share: float, ranks: int) -> float:
    """Return the speed-up by Gustafson's law."""
    return ranks - share * (ranks - 1)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    weight = sum(x * x for x, _ in points)
    return min(1.0, max(0.0, sum(x * y for x, y in points) / weight)) if weight else None
