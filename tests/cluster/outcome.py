"""What became of a trial, in a line and in a table."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.cluster.engines import RAY
from tests.cluster.faults import FAULTS

COLUMNS = ("fault", "engine", "trials", "failed", "lost", "doubled", "wrong", "left over", "slowest end s", "seconds")
MOST_OF_IDEAL = 1.25  # the time of a run with one host at a tenth of the speed


@dataclass(kw_only=True)
class Outcome:
    """One trial."""

    fault: str
    seed: int
    engine: str = RAY.kind
    hosts: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    left: int = 0  # processes of ranks on any machine after the end
    gone: float = 0.0  # seconds until the ranks were gone that nobody led any more
    of_ideal: float = 0.0  # the run's time over what its hosts could do at best, where that is measured
    seconds: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        late = self.gone > FAULTS[self.fault].limit or self.of_ideal > MOST_OF_IDEAL
        return bool(self.error or self.lost or self.doubled or self.wrong or self.left or late)


def described(outcome: Outcome) -> str:
    notes = "; ".join([*outcome.notes, *filter(None, [outcome.error])])
    ideal = f", {outcome.of_ideal:.2f} of the ideal time" if outcome.of_ideal else ""
    counts = ", ".join(f"{getattr(outcome, name)} {name}" for name in ("lost", "doubled", "wrong", "left"))
    return (
        f"{outcome.fault} --engine {outcome.engine} --seed {outcome.seed}: {'FAILED' if outcome.failed else 'ok'}, {outcome.hosts} hosts,"
        f" {outcome.seconds:.0f} s, {counts}, gone in {outcome.gone:.1f} s{ideal}; {notes}"
    )


def table(outcomes: list[Outcome]) -> str:
    """For a terminal and for Markdown alike."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for fault, engine in dict.fromkeys((outcome.fault, outcome.engine) for outcome in outcomes):
        some = [outcome for outcome in outcomes if (outcome.fault, outcome.engine) == (fault, engine)]
        sums = [sum(getattr(outcome, name) for outcome in some) for name in ("failed", "lost", "doubled", "wrong", "left")]
        cells = [fault, engine, len(some), *sums, f"{max(o.gone for o in some):.1f}", f"{sum(o.seconds for o in some):.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
