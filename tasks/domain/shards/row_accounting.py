"""The law "Accounted rows": source rows = embedded + reused + duplicates + quarantined, in every shard, on every run.

Rows whose vectors a cache had (`cached`) are counted apart from those that seals had, and are part of the same sum.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Seal
from tasks.domain.strict import Strict


class RowCounts(Strict):
    """What became of the source's rows."""

    source: int = 0
    embedded: int = Field(0, description="By this run.")
    reused: int = Field(0, description="Held by earlier seals.")
    cached: int = Field(0, description="Taken from the cache by this run. Left out where it is 0.")
    duplicates: int = 0
    quarantined: int = 0
    loaded: int = Field(0, description="In the collection, by the ledger.")
    removed: int = Field(0, description="Rows that this run removed from the collection; they are none of the source's.")

    @model_serializer(mode="wrap")
    def _without_unused_cache(self, handler: SerializerFunctionWrapHandler) -> dict[str, int]:
        return {name: count for name, count in handler(self).items() if name != "cached" or count}

    @property
    def accounted(self) -> int:
        """Source rows of which it is known what became of them."""
        return self.embedded + self.reused + self.cached + self.duplicates + self.quarantined

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(**{name: getattr(self, name) + getattr(other, name) for name in RowCounts.model_fields})


class ShardCounts(Strict):
    """What became of the plan's shards."""

    planned: int = 0
    sealed: int = 0
    loaded: int = 0
    failed: int = 0


def fates_of(seal: Seal, *, encoded_now: int, cached_now: int = 0, loaded: bool = False) -> RowCounts:
    """The fates that a seal states, where this run encoded so many of its rows and had so many from a cache; some of those another shard may own."""
    encoded_now = min(encoded_now, seal.embedded)
    cached_now = min(cached_now, seal.embedded - encoded_now)
    return RowCounts(
        source=seal.source_rows,
        embedded=encoded_now,
        reused=seal.embedded - encoded_now - cached_now,
        cached=cached_now,
        duplicates=seal.duplicates,
        quarantined=len(seal.quarantined),
        loaded=seal.embedded if loaded else 0,
    )


def check_accounts(seal: Seal) -> None:
    """Check a seal against the law "Accounted rows", from counts made independently: the reader's, the parts' and the quarantine's.

    Parts of one try hold disjoint rows. A part of an amendment lies inside ranges of earlier parts, whose
    quarantined rows it holds; that those are the only ones, `tasks.domain.shards.amendment` checks where both are known.

    Raises:
        Permanent: a row is lost or doubled; names the shard and every count.
    """
    in_parts = sum(part.source_rows for part in seal.parts)
    accounted = in_parts + seal.duplicates + len(seal.quarantined)
    if in_parts != seal.embedded or accounted != seal.source_rows:
        raise Permanent(
            f"shard {seal.name} ({seal.shard}): {seal.source_rows} source rows, but {in_parts} in parts "
            f"({seal.embedded} said) + {seal.duplicates} duplicates + {len(seal.quarantined)} quarantined"
        )
    chunks = sum(part.rows for part in seal.parts)
    if seal.chunks is not None and chunks != seal.chunks.rows:
        raise Permanent(f"shard {seal.name} ({seal.shard}): {seal.chunks.rows} chunks were read, and {chunks} are in parts")
    spans = sorted((part.amendment, part.first, part.stop) for part in seal.parts)
    for (one, _, stop), (other, first, _) in pairwise(spans):
        if one == other and first < stop:
            raise Permanent(f"shard {seal.name} ({seal.shard}): two parts hold source row {first}")
