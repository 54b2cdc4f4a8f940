"""The rules by which rows are removed from a collection; every removal is planned and counted.

A file is identified by its place. The rows of an unplanned shard are removed if a newer shard of the file at its place is
planned or, in a mirror, if the file no longer exists. The same name below another root is another file, unless the
job says that the files were moved.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tasks.domain.digest import digest
from tasks.domain.shards.seal import Loaded
from tasks.domain.strict import Strict

Rule = Literal["replaced", "gone"]
RULES: dict[Rule, str] = {
    "replaced": "no longer in a file that has changed",
    "gone": "of files that are no longer in the source (target.mode is mirror)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """The current root of the source, and its previous root if the files were moved."""

    now: str
    moved_from: str | None = None

    def place(self, entry: Loaded) -> str:
        """Return the current place of an entry's first file. An entry without a place (older format) counts as below the current root."""
        if entry.place is None:
            return below(self.now, entry.group)
        return self.moved(entry.place)

    def moved(self, place: str) -> str:
        """Return the current name of a place. If the new root is below the old one, places below the new root are current already."""
        if self.moved_from is not None and is_below(place, self.moved_from) and not self._is_current(place):
            return below(self.now, place[len(self.moved_from.rstrip("/")) :].lstrip("/"))
        return place

    def _is_current(self, place: str) -> bool:
        return self.moved_from is not None and is_below(self.now, self.moved_from) and is_below(place, self.now)

    def strangers(self, known: Iterable[str]) -> list[str]:
        """Return those roots of the collection's files that this source does not cover."""
        return sorted(root for root in known if not is_below(self.moved(root), self.now))


def below(root: str, name: str) -> str:
    """Join a root and a name below it."""
    return f"{root.rstrip('/')}/{name}" if name else root


def is_below(place: str, root: str) -> bool:
    """Whether a place equals a root or is below it."""
    return place == root or place.startswith(f"{root.rstrip('/')}/")


def rule_for(entry: Loaded, roots: Roots, *, standing: Container[str], mirror: bool) -> Rule | None:
    """Return the rule by which the rows of an unplanned shard are removed; None: they stay.

    Args:
        entry: the shard's ledger entry.
        roots: the roots of the source.
        standing: digests of the places of existing files that have shards of their own.
        mirror: whether rows of deleted files are removed as well.

    A shard of many files (pictures) has no single file whose newer version replaces it: a newer version takes over the keys
    of its rows one by one, and the remaining rows are those of deleted files.
    """
    if entry.files <= 1 and digest(roots.place(entry)) in standing:
        return "replaced"
    return "gone" if mirror else None


class Removal(Strict):
    """The rows that a run removes, or has removed, by one rule."""

    rows: int = Field(0, ge=0)
    files: int = Field(0, ge=0)

    def __add__(self, other: Removal) -> Removal:
        return Removal(rows=self.rows + other.rows, files=self.files + other.files)
