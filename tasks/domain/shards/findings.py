"""Findings while a source is cut or read that quarantine no row: counted by kind, each with its first example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field

from tasks.domain.strict import Strict

MOST_KINDS = 20
OTHERS = "other things that were seen while reading"


class Finding(Strict):
    """The findings of one kind."""

    what: str = Field(description="For people, in the plural, including what to do.")
    count: int = Field(ge=1)
    example: str = Field(description="The place of the first one.")

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}, the first: {self.example[:200]!r}"


class Findings:
    """A counter of findings; memory does not grow with their number."""

    def __init__(self) -> None:
        self._kinds: dict[str, Finding] = {}

    def add(self, what: str, example: str, count: int = 1) -> None:
        """Add `count` findings of a kind."""
        if what not in self._kinds and len(self._kinds) >= MOST_KINDS:
            what = OTHERS
        before = self._kinds.get(what)
        self._kinds[what] = Finding(what=what, count=count + (before.count if before else 0), example=before.example if before else example)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add findings that were counted elsewhere."""
        for finding in findings:
            self.add(finding.what, finding.example, finding.count)

    def all(self) -> tuple[Finding, ...]:
        """Return the counts so far, by kind."""
        return tuple(self._kinds.values())


def notes_with(notes: Sequence[str], findings: Iterable[Finding]) -> tuple[str, ...]:
    """Add a line for each finding to the notes, in place of earlier lines of the same kind."""
    new = tuple(findings)
    others = [note for note in notes if not note.startswith(tuple(f"{finding.what}: " for finding in new))]
    return (*others, *map(str, new))
