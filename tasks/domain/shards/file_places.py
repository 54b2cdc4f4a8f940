"""Places: below which roots a corpus reads its files, and under which of them a shard's id says nothing of the root.

The first root of a corpus is in no id, so that a corpus of one root has the ids that it always had. The ids of further roots hold the root:
files of one name, size and time below two roots are two shards, with seals, parts and ledger entries of their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict


class FirstRoots(Strict):
    """The roots whose shards have ids without a root; written once."""

    format_version: Literal[2] = 2
    roots: tuple[str, ...] = Field(description="One, unless several were read before roots were kept.")
    certain: bool = Field(
        description="Whether a shard below one of them is known to be of it. Where not, the ledgers of the corpus say it shard by shard, and "
        "a shard of which they do not has the root in its id."
    )


class KnownAs(Strict):
    """A root that files were moved to (`source.moved_from`): its shards have the ids that they have below the other root."""

    format_version: Literal[2] = 2
    root: str
    known_as: str = Field(description="The other root.")
