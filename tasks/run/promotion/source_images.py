"""The pictures behind keys of an image corpus, found again in the source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa

from tasks.adapters.rows.builder import RowMaker
from tasks.domain.ports import Collection
from tasks.run.plan import Plan


def pictures_of(
    plan: Plan, collection: Collection, keys: list[str], *, side: int, budget: float = float("inf")
) -> Iterator[tuple[str, bytes]]:
    """Small JPEGs by key, in the source's order, for keys whose shards are still in the source; a corpus of texts has none.

    Args:
        plan: of the corpus.
        collection: that says which shard has a key.
        keys: of the pictures.
        side: the most pixels each way.
        budget: bytes of the source after which no more is read.
    """
    if plan.job.source.modality != "image" or not keys:
        return
    from tasks.adapters.report.thumbnails import thumbnail  # noqa: PLC0415 - a library that most runs have no use for

    wanted: dict[str, set[str]] = defaultdict(set)
    for key, holder in collection.shards_of(keys).items():
        wanted[holder].add(key)
    for shard in plan:
        missing = wanted.pop(shard.id, set())
        maker = RowMaker(plan.job.source, shard, (), target=plan.job.target)
        for chunk in maker.rows(plan.inspected.source) if missing else ():
            for key, data, uri in _pictures(chunk.batch, missing):
                missing.discard(key)
                small = thumbnail(data, uri, max_pixels=plan.job.encoder.largest_picture, side=side, references=maker.references)
                if small:
                    yield key, small
            budget -= chunk.batch.nbytes
            if not missing or budget <= 0:
                break
        if not wanted or budget <= 0:
            return


def _pictures(batch: pa.RecordBatch, wanted: set[str]) -> Iterator[tuple[str, bytes | None, str | None]]:
    for at, key in enumerate(batch.column("id").to_pylist()):
        if key in wanted:
            yield key, batch.column("image")[at].as_py(), batch.column("image_uri")[at].as_py()
