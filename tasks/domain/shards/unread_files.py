"""Files that stand in a source and are not read."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tasks.domain.strict import Strict


class UnreadFiles(Strict):
    """Files that are left out for one reason."""

    reason: str
    files: int = Field(ge=1)
    example: str = Field(description="The name of the first, below the source's root.")


def format_unread(unread: Sequence[UnreadFiles]) -> str:
    """All of it in a sentence."""
    files = sum(some.files for some in unread)
    kinds = ", ".join(f"{some.files:,} {some.reason} ({some.example[:80]!r})" for some in unread)
    return f"{files:,} {'file' if files == 1 else 'files'} in the source {'is' if files == 1 else 'are'} not read: {kinds}"
