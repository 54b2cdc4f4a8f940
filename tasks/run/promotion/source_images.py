"""Read the pictures of keys of an image corpus from the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from tasks.adapters.rows.builder import RowMaker
from tasks.domain.ports import Collection
from tasks.domain.shards.shard import Shard
from tasks.run.plan import Plan

STRAY_BYTES = 256 << 20  # the most bytes of not yet loaded shards that are read for keys of changed shards


def pictures_of(
    plan: Plan, collection: Collection, keys: list[str], *, side: int, budget: float = float("inf")
) -> Iterator[tuple[str, bytes]]:
    """Yield key and small JPEG in the source's order; a corpus of texts has none.

    If a shard has changed since it was loaded, its keys are searched in the shards that are not loaded yet.

    Args:
        plan: of the corpus.
        collection: knows the shard of each key.
        keys: of the pictures.
        side: the most pixels each way.
        budget: bytes of the source after which reading stops.
    """
    if plan.job.source.modality != "image" or not keys:
        return
    keys_by_shard: dict[str, set[str]] = defaultdict(set)
    for key, holder in collection.shards_of(keys).items():
        keys_by_shard[holder].add(key)
    read = _Reading(plan, side, budget)
    for shard in plan:
        if missing := keys_by_shard.pop(shard.id, None):
            yield from read.thumbnails(shard, missing)
        if not keys_by_shard or read.budget <= 0:
            return
    strays, loaded = set().union(*keys_by_shard.values()), plan.checkpoint.loaded_ids(plan.target)
    read.budget = min(read.budget, STRAY_BYTES)
    for shard in plan:
        if not strays or read.budget <= 0:
            return
        if shard.id not in loaded:
            yield from read.thumbnails(shard, strays)


@dataclass(slots=True)
class _Reading:
    """Reads pictures from shards; `budget`: the bytes that may still be read."""

    plan: Plan
    side: int
    budget: float

    def thumbnails(self, shard: Shard, missing: set[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the pictures of missing keys that the shard has, and remove these keys from `missing`."""
        from tasks.adapters.report.thumbnails import thumbnail  # noqa: PLC0415 - most runs do not need its library

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
