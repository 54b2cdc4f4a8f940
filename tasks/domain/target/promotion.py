"""The history of an alias, and the rules that follow from it.

The current target of the alias is read from Milvus alone. Milvus does not say what it pointed to before, when that ended, or
that a collection was turned away from on purpose; so this is written to the checkpoint, each move before it is made. A
move that a kill cut short is therefore known, and made again by whoever comes next.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

DAY_HOURS = 24.0  # hours


class Promotion(Strict):
    """One move of an alias."""

    format_version: Literal[1, 2] = 2
    collection: str = Field(description="The collection that the alias points to after the move.")
    instead_of: str | None = Field(description="The previous collection.")
    by: Literal["run", "promote", "rollback"]
    ledger: str = Field("", description="Identity of that collection. Empty in records of an older format.")
    fingerprint: str = Field("", description="Of the encoder that made the collection.")
    model: str = ""
    at: str = Field(description="UTC, ISO 8601.")


History = Sequence[Promotion]  # in the order of time


def is_rejected(history: History, collection: str) -> bool:
    """Whether a collection was rolled back and not promoted since: a run must not promote it."""
    for move in reversed(history):
        if move.collection == collection:
            return False
        if move.instead_of == collection and move.by == "rollback":
            return True
    return False


def previous(history: History, live: str | None) -> Iterator[str]:
    """Candidates for a rollback, newest first: collections that were live before and not rolled back themselves."""
    told = {live}
    for move in reversed(history):
        for name in (move.collection, move.instead_of):
            if name and name not in told and not is_rejected(history, name):
                told.add(name)
                yield name


def unfinished(history: History, live: str | None) -> str | None:
    """The collection that a rollback was cut short of leading to; None where there is none."""
    last = history[-1] if history else None
    return last.collection if last and last.by == "rollback" and live == last.instead_of else None


def is_written(history: History, move: Promotion) -> bool:
    """Whether this move is the last that was written down: it was cut short, and needs no second line."""
    last = history[-1] if history else None
    return last is not None and (last.collection, last.instead_of, last.by) == (move.collection, move.instead_of, move.by)


def outdated(history: History, *, kept: set[str | None], keep_previous: int, grace: float, now: dt.datetime) -> list[str]:
    """Collections that may be dropped: neither kept, nor among the newest before them, and out of use for long enough.

    Args:
        history: every move of the alias.
        kept: the collection of the alias and the one being built.
        keep_previous: how many earlier ones stay whatever their age.
        grace: hours for which a collection stays after the alias has left it.
        now: with a time zone.
    """
    left: dict[str, dt.datetime] = {}
    for move in history:
        for name in (move.instead_of, move.collection):
            if name:
                left.pop(name, None)  # the last in this order left the alias last
                left[name] = dt.datetime.fromisoformat(move.at)
    earlier = [name for name in reversed(left) if name not in kept]
    return [name for name in earlier[keep_previous:] if now - left[name] >= dt.timedelta(hours=grace)]


def abandoned(
    history: History, silent: Mapping[str, float], *, kept: set[str | None], keep_previous: int, grace: float, now: dt.datetime
) -> list[str]:
    """Collections that can be dropped: outdated ones, and those that were never promoted.

    Args:
        history: every move of the alias.
        silent: the collections that are there, each with the hours since anything was written under its encoder. A run
            writes all the time, so that one which has been silent for a day has none.
        kept: the collection of the alias, and that of the requested encoder.
        keep_previous: as in `outdated`.
        grace: hours; a collection that was never promoted is kept as long.
        now: with a time zone.
    """
    left = set(outdated(history, kept=kept, keep_previous=keep_previous, grace=grace, now=now))
    led = {name for move in history for name in (move.collection, move.instead_of)}
    never = {name for name, hours in silent.items() if name not in led | kept and hours >= grace}
    return [name for name, hours in silent.items() if hours >= DAY_HOURS and name in left | never]
