"""Differences between a row in a collection and its sealed version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

DifferenceKind = Literal["absent", "extra", "shard", "doubled", "vector", "text", "field", "unaccounted"]


class Difference(Strict):
    """One thing that is wrong with one key."""

    key: str
    kind: DifferenceKind = Field(
        description="absent: not in the collection; extra: carries the shard and is not in its seal; shard: carries another shard;"
        " doubled: comes more than once; vector, text, field: another value; unaccounted: carries a shard that no seal accounts for."
    )
    shard: str = Field(description="The shard that the key is sealed in; of an extra or unaccounted one, the shard that it carries.")
    field: str = Field("", description="The field, where the kind is field.")
    held_by: str = Field("", description="The shard that the row carries, where the kind is shard.")
    told: str = Field("", description="Both values in words, shortened.")

    @property
    def named(self) -> str:
        """The kind as lists show it: a field by its name."""
        return self.field if self.kind == "field" else self.kind

    def line(self, names: Mapping[str, str]) -> str:
        """The fault in words. `names`: of shards, for people."""
        of = f"key {self.key!r} of shard {names.get(self.shard, self.shard)}"
        match self.kind:
            case "absent":
                return f"{of} is nowhere"
            case "shard":
                holder = names.get(self.held_by, "of another corpus")
                return f"{of} is held by shard {holder} ({self.held_by}): a key in two shards"
            case "extra":
                return f"key {self.key!r} carries shard {names.get(self.shard, self.shard)} and is not in its seal"
            case "doubled":
                return f"{of} comes more than once: {self.told}"
            case "unaccounted":
                return f"key {self.key!r} carries shard {self.shard!r}, which no seal accounts for"
            case _:
                return f"key {self.key!r} has another {self.named} than its seal{': ' + self.told if self.told else ''}"


class Compared(Strict):
    """The outcome for some rows. Rows compare equal where nothing of them is among the differences."""

    rows: int = Field(ge=0, description="Rows that were compared.")
    differences: tuple[Difference, ...] = ()
    lowest_cosine: float | None = Field(None, description="Cosine of the row's vector to the sealed one; None: there is no row.")

    def __add__(self, other: Compared) -> Compared:
        cosines = [each.lowest_cosine for each in (self, other) if each.lowest_cosine is not None]
        return Compared(
            rows=self.rows + other.rows,
            differences=self.differences + other.differences,
            lowest_cosine=min(cosines, default=None),
        )
