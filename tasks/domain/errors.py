"""The error tree. Whoever catches an error needs to know one thing: what may be done next.

KitestringError
├── Transient         nothing happened; the same call may be made again
├── OutcomeUnknown    it may or may not have happened; look before trying again
└── Permanent         trying again gives the same answer
    ├── BadInput      ... because of what the user gave; the message says what to change (exit 2)
    │   ├── NoAnswer  ... because a service that the user named does not answer: the address is wrong, or it is down
    │   └── Newer     ... because a newer version of Kitestring wrote the document
    ├── Damaged       ... because a committed part is missing or changed
    └── Unreadable    ... because a document in the checkpoint was truncated or edited
"""

from __future__ import annotations

from typing import Literal

Leaf = Literal["transient", "permanent", "bad input"]


class KitestringError(Exception):
    """Anything that Kitestring raises on purpose. The message is one line, for a person. `row`: the shard's row that it is about."""

    def __init__(self, message: object = "", *, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class Transient(KitestringError):
    """Nothing was changed; trying again may work."""


class OutcomeUnknown(KitestringError):
    """The request left, the answer did not come back: look at the other side before trying again."""


class Permanent(KitestringError):
    """Trying again cannot help. Fails the shard, not the run."""


class BadInput(Permanent):
    """The user's file, setting or service is wrong. Names the thing and the cure."""


class NoAnswer(BadInput):
    """A service that the job names has not answered yet. Somebody who waits wants to know at once; a scheduled run may try again later."""


class Newer(BadInput):
    """A document in the checkpoint was written by a newer version of Kitestring. Upgrading helps; nothing of it may be changed."""


class Damaged(Permanent):
    """A part that was committed is gone, or is not the bytes that were committed. `key`: the part's."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type[Damaged], tuple[str, str]]:
        return type(self), (str(self), self.key)


class Unreadable(Permanent):
    """A document in the checkpoint is truncated, edited or misplaced. Names the key."""


class RunFailed(Permanent):
    """A run that ended with something wrong. All that could be done is done and kept."""

    def __init__(self, message: str, summary: dict[str, object]) -> None:
        super().__init__(message)
        self.summary = summary

    def __reduce__(self) -> tuple[type[RunFailed], tuple[str, dict[str, object]]]:
        return type(self), (str(self), self.summary)


def leaf_of(error: KitestringError) -> Leaf:
    """What of an error has to cross to another process beside its words: what may be done next."""
    if isinstance(error, BadInput):
        return "bad input"
    return "permanent" if isinstance(error, Permanent) else "transient"


def error_of(leaf: Leaf, text: str, *, row: int | None = None) -> KitestringError:
    """The error that another process has told of."""
    leaves: dict[Leaf, type[KitestringError]] = {"transient": Transient, "permanent": Permanent, "bad input": BadInput}
    return leaves[leaf](text, row=row)
