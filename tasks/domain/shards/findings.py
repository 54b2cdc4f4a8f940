"""What was seen while a source was cut or read, and is no reason to set a row aside: counted by kind, each with its first example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from tasks.domain.strict import Strict

MOST_KINDS = 20
OTHERS = "other things that were seen while reading"


class Finding(Strict):
    """Things of one kind."""

    what: str = Field(description="In words, in the plural; what to do about it stands within.")
    count: int = Field(ge=1)
    example: str = Field(description="Where the first is.")

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}, the first: {self.example[:200]!r}"


class Findings:
    """A count of them; memory does not grow with their number."""

    def __init__(self) -> None:
        self._kinds: dict[str, Finding] = {}

    def add(self, what: str, example: str, count: int = 1) -> None:
        """Take in some of a kind."""
        if what not in self._kinds and len(self._kinds) >= MOST_KINDS:
            what = OTHERS
        before = self._kinds.get(what)
        self._kinds[what] = Finding(what=what, count=count + (before.count if before else 0), example=before.example if before else example)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Take in what was counted elsewhere."""
        for finding in findings:
            self.add(finding.what, finding.example, finding.count)

    def all(self) -> tuple[Finding, ...]:
        """What was counted so far, by kind."""
        return tuple(self._kinds.values())


def notes_with(notes: Sequence[str], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Notes, with a line for each kind in place of one that was written when less was known of it."""
    found = tuple(findings)
    kept = [note for note in notes if not note.startswith(tuple(f"{finding.what}: " for finding in found))]
    return (*kept, *map(str, found))
