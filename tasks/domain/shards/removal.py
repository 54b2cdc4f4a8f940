"""Which rows leave a collection, and by which rule: none by surprise, and none uncounted.

A file is identified by its place. A shard that is no longer planned leaves when a newer shard is planned of the file at its
place, or, in a mirror, when there is no file any more. The same name below another root is another file, unless the
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
        """The current place of the first file of an entry. An entry without a place (an older format) is taken to be below the current root."""
        if entry.place is None:
            return below(self.now, entry.group)
        return self.moved(entry.place)

    def moved(self, place: str) -> str:
        """A place as it is called now; one below a root that is itself below the old one stands there already."""
        if self.moved_from is not None and is_below(place, self.moved_from) and not self._is_there(place):
            return below(self.now, place[len(self.moved_from.rstrip("/")) :].lstrip("/"))
        return place

    def _is_there(self, place: str) -> bool:
        return self.moved_from is not None and is_below(self.now, self.moved_from) and is_below(place, self.now)

    def strangers(self, known: Iterable[str]) -> list[str]:
        """Roots that files of the collection were read from and that this source does not cover."""
        return sorted(root for root in known if not is_below(self.moved(root), self.now))


def below(root: str, name: str) -> str:
    """The place of a name below a root."""
    return f"{root.rstrip('/')}/{name}" if name else root


def is_below(place: str, root: str) -> bool:
    """Whether a place is a root, or below it."""
    return place == root or place.startswith(f"{root.rstrip('/')}/")


def rule_for(entry: Loaded, roots: Roots, *, standing: Container[str], mirror: bool) -> Rule | None:
    """By which rule the rows of a shard that is no longer planned leave; None: they stay.

    Args:
        entry: what the ledger knows of it.
        roots: of the source.
        standing: digests of the places at which files with shards of their own stand.
        mirror: whether rows of files that are gone leave as well.

    A shard of many files (pictures) has no one file whose newer version replaces it: each of its rows leaves with its key, which
    the newer version takes over, and what is left of it is of files that are gone.
    """
    if entry.files <= 1 and digest(roots.place(entry)) in standing:
        return "replaced"
    return "gone" if mirror else None


class Removal(Strict):
    """Rows that a run removes, or has removed, by one rule."""

    rows: int = Field(0, ge=0)
    files: int = Field(0, ge=0)

    def __add__(self, other: Removal) -> Removal:
        return Removal(rows=self.rows + other.rows, files=self.files + other.files)
