"""The pictures behind keys of an image corpus, found again in the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.adapters.rows.builder import RowMaker
from tasks.domain.ports import Collection
from tasks.domain.shards.shard import Shard
from tasks.run.plan import Plan

STRAY_BYTES = 256 << 20  # of shards that are not loaded, which are read for keys of those that have changed


def pictures_of(
    plan: Plan, collection: Collection, keys: list[str], *, side: int, budget: float = float("inf")
) -> Iterator[tuple[str, bytes]]:
    """Small JPEGs by key, in the source's order; a corpus of texts has none.

    Where a shard has changed since it was loaded, its keys are looked for among the shards that are not loaded yet, as they are now.

    Args:
        plan: of the corpus.
        collection: that says which shard has a key.
        keys: of the pictures.
        side: the most pixels each way.
        budget: bytes of the source after which no more is read.
    """
    if plan.job.source.modality != "image" or not keys:
        return
    wanted: dict[str, set[str]] = defaultdict(set)
    for key, holder in collection.shards_of(keys).items():
        wanted[holder].add(key)
    read = _Reading(plan, side, budget)
    for shard in plan:
        if missing := wanted.pop(shard.id, None):
            yield from read.small_ones(shard, missing)
        if not wanted or read.budget <= 0:
            return
    strays, loaded = set().union(*wanted.values()), plan.checkpoint.loaded_ids(plan.target)
    read.budget = min(read.budget, STRAY_BYTES)
    for shard in plan:
        if not strays or read.budget <= 0:
            return
        if shard.id not in loaded:
            yield from read.small_ones(shard, strays)


@dataclass(slots=True)
class _Reading:
    """Reads shards for some of their pictures; `budget`: the bytes that are left to be read."""

    plan: Plan
    side: int
    budget: float

    def small_ones(self, shard: Shard, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """Those of the missing keys that the shard has; they are missing no longer."""
        from tasks.adapters.report.thumbnails import thumbnail  # noqa: PLC0415 - a library that most runs have no use for

        job = self.plan.job
        maker = RowMaker(job.source, shard, (), target=job.target)
        for chunk in maker.rows(self.plan.inspected.source):
            for key, data, uri in _pictures(chunk.batch, missing):
                missing.discard(key)
                small = thumbnail(data, uri, max_pixels=job.encoder.largest_picture, side=self.side, references=maker.references)
                if small:
                    yield key, small
            self.budget -= chunk.batch.nbytes
            if not missing or self.budget <= 0:
                return


def _pictures(batch: pa.RecordBatch, wanted: set[str]) -> Iterator[tuple[str, bytes | None, str | None]]:
    for at, key in enumerate(batch.column("id").to_pylist()):
        if key in wanted:
            yield key, batch.column("image")[at].as_py(), batch.column("image_uri")[at].as_py()
