"""Garbage: parts and files of keys that are unreferenced, a day old, and not of a run that may still be active.

A run counts as active while its newest object is younger than a day. While any run is active, parts of unsealed
shards are kept, whoever wrote them: a run adopts finished parts of earlier runs when it starts a shard, and
references them in its seal only at the end.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tasks.domain.shards.layout import writer_of
from tasks.domain.strict import Strict

PROTECTED_SECONDS = 24 * 3600.0


class Condemned(Strict):
    """A mark that a sweep writes before it removes objects; see `tasks.adapters.checkpoint.condemned`."""

    format_version: Literal[1] = 1
    keys: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Activity:
    """The latest write of each attempt, of each file of keys, and of any object; seconds since 1970 by the store's clock."""

    now: float
    newest: dict[str, float] = field(default_factory=dict)
    latest: float = 0.0

    def note(self, key: str, modified: float) -> None:
        """Record one object of the corpus."""
        self.latest = max(self.latest, modified)
        writer = writer_of(key)
        if writer:
            self.newest[writer] = max(self.newest.get(writer, 0.0), modified)

    @property
    def busy(self) -> bool:
        """Whether an object of the corpus is younger than a day, so that a run may be active."""
        return self.now - self.latest < PROTECTED_SECONDS

    def is_old(self, key: str) -> bool:
        """Whether the attempt that wrote a part has written nothing for a day, or a file of keys is a day old."""
        return self.now - self.newest.get(writer_of(key) or "", self.now) >= PROTECTED_SECONDS


def garbage(files: Iterable[str], activity: Activity, *, named: Container[str] | None) -> Iterator[str]:
    """Yield those of a shard's parts and files of keys that may be removed.

    Args:
        files: their keys in the store.
        activity: the activity of the whole corpus.
        named: keys that the shard's seal and amendments reference; None: the shard is not sealed.
    """
    if named is None and activity.busy:
        return
    yield from (key for key in files if activity.is_old(key) and (named is None or key not in named))
