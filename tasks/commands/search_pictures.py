"""The pictures of a page of hits: that which was searched with, and those behind the hits."""

from __future__ import annotations

from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.report.thumbnails import THUMBNAIL_PIXELS, thumbnail
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.job import Job
from tasks.domain.target.collection import Hit
from tasks.run.plan import opened, plan_again
from tasks.run.preflight import inspect_job
from tasks.run.promotion.source_images import pictures_of


def thumbnails(job: Job, hits: list[Hit]) -> dict[str, bytes]:
    """Small JPEGs by key, for hits of an image corpus whose shards are still in the source; others have none."""
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
        return {}  # a source that is gone: the hits are shown without


def shown_picture(job: Job, place: str) -> bytes | None:
    """A small JPEG of a picture that is searched with; None where that cannot be made of it."""
    takes_pictures = "image" in ENCODERS[job.encoder.kind].modalities
    return thumbnail(None, place, max_pixels=job.encoder.largest_picture) if takes_pictures else None
