"""Differences between a row in a collection and its sealed version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

DifferenceKind = Literal["absent", "extra", "shard", "doubled", "vector", "text", "field", "unaccounted"]


class Difference(Strict):
    """One difference of one key."""

    key: str
    kind: DifferenceKind = Field(
        description="absent: not in the collection; extra: carries the shard but is not in its seal; shard: carries another shard;"
        " doubled: occurs more than once; vector, text, field: another value; unaccounted: carries a shard without a seal."
    )
    shard: str = Field(description="The shard in which the key is sealed; for extra and unaccounted: the shard that it carries.")
    field: str = Field("", description="The field, if the kind is field.")
    held_by: str = Field("", description="The shard that the row carries, if the kind is shard.")
    told: str = Field("", description="Both values for people, shortened.")

    @property
    def named(self) -> str:
        """The kind for lists; for a field its name."""
        return self.field if self.kind == "field" else self.kind

    def line(self, names: Mapping[str, str]) -> str:
        """Format the difference as one line. `names`: shards' names for people."""
        of = f"key {self.key!r} of shard {names.get(self.shard, self.shard)}"
        match self.kind:
            case "absent":
                return f"{of} is not in the collection"
            case "shard":
                holder = names.get(self.held_by, "of another corpus")
                return f"{of} is held by shard {holder} ({self.held_by}): a key in two shards"
            case "extra":
                return f"key {self.key!r} carries shard {names.get(self.shard, self.shard)} but is not in its seal"
            case "doubled":
                return f"{of} occurs more than once: {self.told}"
            case "unaccounted":
                return f"key {self.key!r} carries shard {self.shard!r}, which no seal accounts for"
            case _:
                return f"key {self.key!r} differs from its seal in {self.named}{': ' + self.told if self.told else ''}"


class Compared(Strict):
    """The comparison of some rows. Rows without a difference are equal."""

    rows: int = Field(ge=0, description="Rows that were compared.")
    differences: tuple[Difference, ...] = ()
    lowest_cosine: float | None = Field(None, description="Lowest cosine of a stored vector to the sealed one; None: no row was found.")

    def __add__(self, other: Compared) -> Compared:
        cosines = [each.lowest_cosine for each in (self, other) if each.lowest_cosine is not None]
        return Compared(
            rows=self.rows + other.rows,
            differences=self.differences + other.differences,
            lowest_cosine=min(cosines, default=None),
        )
