"""What trials come to: one line for each fault."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos.audit import Findings

COLUMNS = ("fault", "trials", "missed", "lost", "doubled", "ghosts", "wrong", "lies", "left over", "extra rows", "slowest end s", "seconds")


@dataclass(slots=True)
class Outcome:
    """One trial."""

    fault: str
    seed: int
    struck: bool
    findings: Findings
    slowest: float
    seconds: float
    error: str = ""
    notes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error) or not self.findings.clean


def table(outcomes: list[Outcome]) -> str:
    """For a terminal and for Markdown alike."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    faults = dict.fromkeys(o.fault for o in outcomes)
    lines += [_line(fault, [o for o in outcomes if o.fault == fault]) for fault in faults]
    return "\n".join([*lines, _line("all", outcomes)])


def _line(fault: str, some: list[Outcome]) -> str:
    ran = [o for o in some if not o.skipped]
    found = [o.findings for o in ran]
    cells = [
        fault,
        str(len(ran)) if ran else f"skipped: {some[0].skipped}",
        str(sum(not o.struck for o in ran)),
        str(sum(len(f.lost) for f in found)),
        str(sum(len(f.doubled) for f in found)),
        str(sum(len(f.ghosts) for f in found)),
        str(sum(len(f.wrong) for f in found) + sum(bool(o.error) for o in ran)),
        str(sum(len(f.lies) for f in found)),
        str(sum(len(f.processes) for f in found)),
        f"{sum(f.extra for f in found)} (most {max((f.extra for f in found), default=0)})",
        f"{max((o.slowest for o in ran), default=0):.1f}",
        f"{sum(o.seconds for o in ran):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"
