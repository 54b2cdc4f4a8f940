"""The arithmetic of a comparison: rounds that take turns, medians, spreads, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One figure, measured once in every round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Highest less lowest, as a share of the median."""
        return (max(self.values) - min(self.values)) / self.median if self.median else 0.0

    def __str__(self) -> str:
        digits = 0 if abs(self.median) >= 100 else 1 if abs(self.median) >= 10 else 2
        return f"{self.median:,.{digits}f} ±{self.spread / 2:.0%}" if len(self.values) > 1 else f"{self.median:,.{digits}f}"


Results = dict[str, dict[str, Series]]


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Each name once a round, every round beginning with another: what comes later or slows down meets all alike."""
    for number in range(rounds):
        start = number % len(names) if names else 0
        yield from (*names[start:], *names[:start])


def compare(contenders: Mapping[str, Callable[[], Figures]], rounds: int, *, told: Callable[[str], None] = print) -> Results:
    """Run all contenders, in turn, and gather what they measured."""
    gathered: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    for name in turns(list(contenders), rounds):
        found = contenders[name]()
        told(f"  {name}: " + ", ".join(f"{figure} {value:.5g}" for figure, value in found.items()))
        for figure, value in found.items():
            gathered[name].setdefault(figure, []).append(value)
    return {name: {figure: Series(tuple(values)) for figure, values in found.items()} for name, found in gathered.items()}


def ratio(results: Results, name: str, to: str, figure: str) -> float:
    """Ratio of two contenders' medians."""
    return results[name][figure].median / results[to][figure].median
