"""The law "Accounted rows": source rows = embedded + reused + duplicates + quarantined, in every shard, on every run.

Rows with vectors from a cache (`cached`) are counted apart from rows with vectors from earlier seals (`reused`), in the same sum.
"""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from tasks.domain.errors import Permanent
from tasks.domain.shards.seal import Seal
from tasks.domain.strict import Strict


class RowCounts(Strict):
    """The outcomes of the source's rows."""

    source: int = 0
    embedded: int = Field(0, description="Encoded by this run.")
    reused: int = Field(0, description="With vectors from earlier seals.")
    cached: int = Field(0, description="Taken from the cache by this run. Omitted in JSON if 0.")
    duplicates: int = 0
    quarantined: int = 0
    loaded: int = Field(0, description="In the collection, by the ledger.")
    removed: int = Field(0, description="Rows that this run removed from the collection; they are not rows of the source.")

    @model_serializer(mode="wrap")
    def _without_unused_cache(self, handler: SerializerFunctionWrapHandler) -> dict[str, int]:
        return {name: count for name, count in handler(self).items() if name != "cached" or count}

    @property
    def accounted(self) -> int:
        """Source rows with a known outcome."""
        return self.embedded + self.reused + self.cached + self.duplicates + self.quarantined

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(**{name: getattr(self, name) + getattr(other, name) for name in RowCounts.model_fields})


class ShardCounts(Strict):
    """The outcomes of the plan's shards."""

    planned: int = 0
    sealed: int = 0
    loaded: int = 0
    failed: int = 0


def fates_of(seal: Seal, *, encoded_now: int, cached_now: int = 0, loaded: bool = False) -> RowCounts:
    """Return the row counts of a seal of which this run encoded `encoded_now` rows and took `cached_now` from a cache.

    Both may exceed the seal's embedded rows, because another shard may own some of those rows.
    """
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
    """Check a seal against the law "Accounted rows" with independent counts: the reader's, the parts' and the quarantine's.

    Parts of one attempt hold disjoint rows. A part of an amendment lies inside the ranges of earlier parts and holds
    their quarantined rows; `tasks.domain.shards.amendment` checks that it holds no others.

    Raises:
        Permanent: a row is lost or doubled; names the shard and every count.
    """
    in_parts = sum(part.source_rows for part in seal.parts)
    accounted = in_parts + seal.duplicates + len(seal.quarantined)
    if in_parts != seal.embedded or accounted != seal.source_rows:
        raise Permanent(
            f"shard {seal.name} ({seal.shard}): {seal.source_rows} source rows, but {in_parts} in parts "
            f"({seal.embedded} stated) + {seal.duplicates} duplicates + {len(seal.quarantined)} quarantined"
        )
    chunks = sum(part.rows for part in seal.parts)
    if seal.chunks is not None and chunks != seal.chunks.rows:
        raise Permanent(f"shard {seal.name} ({seal.shard}): {seal.chunks.rows} chunks were read, but {chunks} are in parts")
    spans = sorted((part.amendment, part.first, part.stop) for part in seal.parts)
    for (one, _, stop), (other, first, _) in pairwise(spans):
        if one == other and first < stop:
            raise Permanent(f"shard {seal.name} ({seal.shard}): two parts hold source row {first}")
