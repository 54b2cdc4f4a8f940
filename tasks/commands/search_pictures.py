"""Additions to a page of hits: the query picture, thumbnails of the hits, and the text around chunks."""

from __future__ import annotations

from contextlib import closing

from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.report.thumbnails import THUMBNAIL_PIXELS, thumbnail
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.domain.target.chunk_context import ChunkContext
from tasks.domain.target.collection import Hit
from tasks.run.plan import opened, plan_again
from tasks.run.preflight import inspect_job, open_target
from tasks.run.promotion.passages import passages_of
from tasks.run.promotion.source_images import pictures_of


def thumbnails(job: Job, hits: list[Hit]) -> dict[str, bytes]:
    """Small JPEGs by key, for hits of an image corpus whose shards are still in the source; other hits have none."""
    if job.source.modality != "image" or not hits:
        return {}
    try:
        with scratch_folder() as scratch:
            plan = plan_again(inspect_job(job), scratch)
            if plan is None:
                return {}
            with opened(plan) as collection:
                return dict(pictures_of(plan, collection, [hit.id for hit in hits], side=THUMBNAIL_PIXELS))
    except KitestringError:
        return {}  # the source is gone: hits are shown without pictures


def shown_picture(job: Job, place: str) -> bytes | None:
    """A small JPEG of the query picture; None if the encoder takes no pictures or the thumbnail cannot be made."""
    takes_pictures = "image" in ENCODERS[job.encoder.kind].modalities
    return thumbnail(None, place, max_pixels=job.encoder.largest_picture) if takes_pictures else None


def shown_passages(job: Job, hits: list[Hit]) -> dict[str, ChunkContext]:
    """The text around hits that are chunks, by key; empty if they are not chunks or no text is stored."""
    if job.source.chunking is None or not hits:
        return {}
    with closing(open_target(job)) as target:
        name = target.resolve(job.target.collection)
        collection = target.collection(name or job.target.collection)
        spec = collection.describe()
        return passages_of(collection, spec, hits) if spec else {}
