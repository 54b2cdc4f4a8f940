"""The history of an alias, and the rules that depend on it.

The current target of the alias is read from Milvus only. Milvus does not record earlier targets, the times of moves, or
rollbacks, so each move is written to the checkpoint before it is made. A move that was interrupted by a kill is therefore
known, and the next run or command makes it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

DAY_HOURS = 24.0


class Promotion(Strict):
    """One move of an alias."""

    format_version: Literal[1, 2] = 2
    collection: str = Field(description="The collection that the alias points to after the move.")
    instead_of: str | None = Field(description="The previous collection.")
    by: Literal["run", "promote", "rollback"]
    ledger: str = Field("", description="Identity of `collection`. Empty in records of an older format.")
    fingerprint: str = Field("", description="Fingerprint of the encoder that made the collection.")
    model: str = ""
    at: str = Field(description="UTC, ISO 8601.")


History = Sequence[Promotion]  # oldest first


def is_rejected(history: History, collection: str) -> bool:
    """Whether a collection was rolled back and not promoted since, so that a run must not promote it."""
    for move in reversed(history):
        if move.collection == collection:
            return False
        if move.instead_of == collection and move.by == "rollback":
            return True
    return False


def previous(history: History, live: str | None) -> Iterator[str]:
    """Yield candidates for a rollback, newest first: collections that were live before and were not rolled back themselves."""
    seen = {live}
    for move in reversed(history):
        for name in (move.collection, move.instead_of):
            if name and name not in seen and not is_rejected(history, name):
                seen.add(name)
                yield name


def unfinished(history: History, live: str | None) -> str | None:
    """Return the collection of an interrupted rollback; None if there is none."""
    last = history[-1] if history else None
    return last.collection if last and last.by == "rollback" and live == last.instead_of else None


def is_written(history: History, move: Promotion) -> bool:
    """Whether this move is already the last record: it was interrupted, and needs no second record."""
    last = history[-1] if history else None
    return last is not None and (last.collection, last.instead_of, last.by) == (move.collection, move.instead_of, move.by)


def outdated(history: History, *, kept: set[str | None], keep_previous: int, grace: float, now: dt.datetime) -> list[str]:
    """Return collections that may be dropped: not in `kept`, not among the newest previous ones, and unused for long enough.

    Args:
        history: every move of the alias.
        kept: the collection of the alias and the one being built.
        keep_previous: number of previous collections to keep whatever their age.
        grace: hours to keep a collection after the alias moved away from it.
        now: current time, with a time zone.
    """
    left: dict[str, dt.datetime] = {}
    for move in history:
        for name in (move.instead_of, move.collection):
            if name:
                left.pop(name, None)  # order by the latest move
                left[name] = dt.datetime.fromisoformat(move.at)
    earlier = [name for name in reversed(left) if name not in kept]
    return [name for name in earlier[keep_previous:] if now - left[name] >= dt.timedelta(hours=grace)]


def abandoned(
    history: History, silent: Mapping[str, float], *, kept: set[str | None], keep_previous: int, grace: float, now: dt.datetime
) -> list[str]:
    """Return collections that can be dropped: outdated ones, and those that were never promoted.

    Args:
        history: every move of the alias.
        silent: existing collections, each with the hours since the last write under its encoder. A run writes continually,
            so a collection that was silent for a day has no active run.
        kept: the collection of the alias, and that of the requested encoder.
        keep_previous: as in `outdated`.
        grace: hours to keep a collection that was never promoted.
        now: current time, with a time zone.
    """
    out_of_use = set(outdated(history, kept=kept, keep_previous=keep_previous, grace=grace, now=now))
    in_history = {name for move in history for name in (move.collection, move.instead_of)}
    never = {name for name, hours in silent.items() if name not in in_history | kept and hours >= grace}
    return [name for name, hours in silent.items() if hours >= DAY_HOURS and name in out_of_use | never]
