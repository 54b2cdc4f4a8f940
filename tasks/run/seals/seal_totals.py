"""Totals over the seals of a plan: rows by outcome, shards, statistics."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.domain.report.run_report import QUARANTINE_SAMPLES, SetAside
from tasks.domain.shards.findings import Findings
from tasks.domain.shards.row_accounting import RowCounts, fates_of
from tasks.domain.shards.seal import ChunkCounts, EncodeStats, Seal, SealSetDigest
from tasks.run.plan import Plan
from tasks.run.seals.effective_seals import owned_seals, retained_seals

SLOWEST = 10


@dataclass(slots=True)
class SealTotals:
    """Accumulates totals over seals in constant memory."""

    rows: RowCounts = field(default_factory=RowCounts)
    cached: int = 0  # rows with vectors from the cache, of this run and earlier ones
    sealed: int = 0
    loaded: int = 0
    stats: EncodeStats = field(default_factory=EncodeStats)
    quarantine: Counter[str] = field(default_factory=Counter)
    samples: list[SetAside] = field(default_factory=list)
    cover: SealSetDigest = field(default_factory=SealSetDigest)
    slowest: list[tuple[float, str, int]] = field(default_factory=list)
    found: Findings = field(default_factory=Findings)
    chunks: ChunkCounts | None = None  # None: documents are not split

    def add(self, seal: Seal, *, encoded_now: int, loaded: bool, cached_now: int = 0) -> None:
        """Add a seal. `encoded_now`: the rows of it that this run encoded."""
        self.rows += fates_of(seal, encoded_now=encoded_now, cached_now=cached_now, loaded=loaded)
        self.cached += min(seal.cached, seal.embedded)
        self.sealed += 1
        self.cover.add(seal)
        self.loaded += loaded
        self.stats += seal.stats
        self.found.extend(seal.found)
        if seal.chunks is not None:
            self.chunks = seal.chunks + (self.chunks or ChunkCounts(rows=0))
        for row in seal.quarantined:
            self.quarantine[row.reason.partition(":")[0]] += 1
            if len(self.samples) < QUARANTINE_SAMPLES:
                self.samples.append(SetAside(shard=seal.name, row=row.row, id=row.id, reason=row.reason))
        if encoded_now:
            heapq.heappush(self.slowest, (seal.stats.encode_seconds, seal.name, seal.embedded))
            if len(self.slowest) > SLOWEST:
                heapq.heappop(self.slowest)


def total(
    seals: Iterable[Seal], *, encoded_now: Mapping[str, int], loaded: Container[str], cached_now: Mapping[str, int] | None = None
) -> SealTotals:
    """The totals over the given seals."""
    totals = SealTotals()
    for seal in seals:
        encoded, cached = encoded_now.get(seal.shard, 0), (cached_now or {}).get(seal.shard, 0)
        totals.add(seal, encoded_now=encoded, cached_now=cached, loaded=seal.shard in loaded)
    return totals


def count_seals(plan: Plan, *, encoded_now: dict[str, int]) -> SealTotals:
    """The totals over every seal of a plan; `cover`, the digest of the seals, includes the retained ones."""
    totals = total(owned_seals(plan), encoded_now=encoded_now, loaded=plan.checkpoint.loaded_ids(plan.target))
    for seal in retained_seals(plan):
        totals.cover.add(seal)
    return totals
