"""The pictures of a page of hits: that which was searched with, and those behind the hits, found again in the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa

from tasks.adapters.prepare import RowMaker
from tasks.adapters.scratch import scratch_folder
from tasks.adapters.thumbnails import thumbnail
from tasks.domain.collection import Hit
from tasks.domain.encoder import OpenClipEncoder
from tasks.domain.errors import KitestringError
from tasks.domain.job import Job
from tasks.load import opened
from tasks.plan import Plan, plan_again
from tasks.preflight import inspect_job


def thumbnails(job: Job, hits: list[Hit]) -> dict[str, bytes]:
    """Small JPEGs by key, for hits of an image corpus whose shards are still in the source; others have none."""
    if not isinstance(job.encoder, OpenClipEncoder) or job.source.modality != "image" or not hits:
        return {}
    try:
        with scratch_folder() as scratch:
            plan = plan_again(inspect_job(job), scratch)
            return dict(_found(plan, job.encoder.max_pixels, [hit.id for hit in hits])) if plan else {}
    except KitestringError:
        return {}  # a source that is gone: the hits are shown without


def shown_picture(job: Job, place: str) -> bytes | None:
    """A small JPEG of a picture that is searched with; None where that cannot be made of it."""
    return thumbnail(None, place, max_pixels=job.encoder.max_pixels) if isinstance(job.encoder, OpenClipEncoder) else None


def _found(plan: Plan, max_pixels: int, keys: list[str]) -> Iterator[tuple[str, bytes]]:
    with opened(plan) as collection:
        wanted: dict[str, set[str]] = defaultdict(set)
        for key, holder in collection.shards_of(keys).items():
            wanted[holder].add(key)
    for shard in plan:
        missing = wanted.pop(shard.id, set())
        for chunk in RowMaker(plan.job.source, shard, (), target=plan.job.target).rows(plan.inspected.source) if missing else ():
            for key, data, uri in _pictures(chunk.batch, missing):
                missing.discard(key)
                small = thumbnail(data, uri, max_pixels=max_pixels)
                if small:
                    yield key, small
            if not missing:
                break
        if not wanted:
            return


def _pictures(batch: pa.RecordBatch, wanted: set[str]) -> Iterator[tuple[str, bytes | None, str | None]]:
    for at, key in enumerate(batch.column("id").to_pylist()):
        if key in wanted:
            yield key, batch.column("image")[at].as_py(), batch.column("image_uri")[at].as_py()
