"""Files in a source that are not read."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks.domain.strict import Strict


class UnreadFiles(Strict):
    """The files that are not read for one reason."""

    reason: str
    files: int = Field(ge=1)
    example: str = Field(description="The name of the first one, relative to the source's root.")


def format_unread(unread: Sequence[UnreadFiles]) -> str:
    """Format the unread files as one sentence."""
    files = sum(some.files for some in unread)
    kinds = ", ".join(f"{some.files:,} {some.reason} ({some.example[:80]!r})" for some in unread)
    return f"{files:,} {'file' if files == 1 else 'files'} in the source {'is' if files == 1 else 'are'} not read: {kinds}"
