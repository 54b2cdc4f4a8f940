"""The error hierarchy. The class of an error determines what the caller may do next.

KitestringError
├── Transient         nothing was changed; the call may be retried
├── OutcomeUnknown    the call may or may not have taken effect; check before a retry
└── Permanent         a retry gives the same result
    ├── BadInput      ... because of the user's input; the message says what to change (exit code 2)
    │   ├── NoAnswer  ... because a service in the job does not answer: the address is wrong, or it is down
    │   └── Newer     ... because a newer version of Kitestring wrote the document
    ├── Damaged       ... because a committed part is missing or changed
    └── Unreadable    ... because a document in the checkpoint was truncated or edited
"""

from __future__ import annotations

from typing import Literal

Leaf = Literal["transient", "permanent", "bad input"]


class KitestringError(Exception):
    """Base of all errors that Kitestring raises itself. The message is one line, for people. `row`: the affected row of the shard."""

    def __init__(self, message: object = "", *, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


class Transient(KitestringError):
    """Nothing was changed; a retry may succeed."""


class OutcomeUnknown(KitestringError):
    """The request was sent and no response arrived: check the other side before a retry."""


class Permanent(KitestringError):
    """A retry cannot help. Fails the shard, not the run."""


class BadInput(Permanent):
    """The user's file, setting or service is wrong. The message names it and says what to do."""


class NoAnswer(BadInput):
    """A service in the job has not answered yet. Interactive commands fail at once; a scheduled run may retry later."""


class Newer(BadInput):
    """A newer version of Kitestring wrote a document in the checkpoint. Upgrading helps; the document must not be changed."""


class Damaged(Permanent):
    """A committed part is missing or its bytes have changed. `key`: the part's."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key

    def __reduce__(self) -> tuple[type[Damaged], tuple[str, str]]:
        return type(self), (str(self), self.key)


class Unreadable(Permanent):
    """A document in the checkpoint is truncated, edited or misplaced. The message names its key."""


class RunFailed(Permanent):
    """A run finished with failures. All other work is done and stored."""

    def __init__(self, message: str, summary: dict[str, object]) -> None:
        super().__init__(message)
        self.summary = summary

    def __reduce__(self) -> tuple[type[RunFailed], tuple[str, dict[str, object]]]:
        return type(self), (str(self), self.summary)


def leaf_of(error: KitestringError) -> Leaf:
    """Return the kind of an error, which is sent to other processes together with its message."""
    if isinstance(error, BadInput):
        return "bad input"
    return "permanent" if isinstance(error, Permanent) else "transient"


def error_of(leaf: Leaf, text: str, *, row: int | None = None) -> KitestringError:
    """Rebuild an error that another process has sent."""
    leaves: dict[Leaf, type[KitestringError]] = {"transient": Transient, "permanent": Permanent, "bad input": BadInput}
    return leaves[leaf](text, row=row)
