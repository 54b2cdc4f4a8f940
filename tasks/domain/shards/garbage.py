"""Which parts, and which files of keys, are garbage: those that nothing names, a day old, and of no run that may still be at work.

A run is taken to be live as long as the newest object that it wrote is younger than a day. While one is, parts of
shards that nobody has sealed stay, whoever wrote them: a run takes finished parts of earlier ones over when it
starts on a shard, and names them in its seal only when it is done with it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tasks.domain.shards.layout import writer_of
from tasks.domain.strict import Strict

PROTECTED_SECONDS = 24 * 3600.0


class Condemned(Strict):
    """A mark that a sweep sets before it removes something; see `tasks.adapters.checkpoint.condemned`."""

    format_version: Literal[1] = 1
    keys: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Activity:
    """When each attempt last wrote a part, each file of keys was written, and anything at all; seconds since 1970 by the store's clock."""

    now: float
    newest: dict[str, float] = field(default_factory=dict)
    latest: float = 0.0

    def note(self, key: str, modified: float) -> None:
        """Take in one object of the corpus."""
        self.latest = max(self.latest, modified)
        writer = writer_of(key)
        if writer:
            self.newest[writer] = max(self.newest.get(writer, 0.0), modified)

    @property
    def busy(self) -> bool:
        """Something of the corpus is younger than a day, so a run may be at work on it."""
        return self.now - self.latest < PROTECTED_SECONDS

    def is_old(self, key: str) -> bool:
        """Whether the attempt that wrote a part has been silent for a day, or a file of keys is as old."""
        return self.now - self.newest.get(writer_of(key) or "", self.now) >= PROTECTED_SECONDS


def garbage(files: Iterable[str], activity: Activity, *, named: Container[str] | None) -> Iterator[str]:
    """Those of a shard's parts and files of keys that may go.

    Args:
        files: their keys in the store.
        activity: of the whole corpus.
        named: those that the shard's seal and amendments name; None: it is not sealed.
    """
    if named is None and activity.busy:
        return
    yield from (key for key in files if activity.is_old(key) and (named is None or key not in named))
