"""Files at another place that have the name, size and time of files in the collection: by these alone they would be taken for the same."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator

from tasks.adapters.checkpoint.shard_id_set import DigestSet
from tasks.adapters.concurrent_map import ahead
from tasks.domain.errors import BadInput
from tasks.domain.shards.seal import Loaded
from tasks.domain.shards.shard import Shard
from tasks.run.plan import Plan


def refuse_doubtful(plan: Plan) -> None:
    """Refuse files of which nobody can tell whether they were moved or are others; nothing is read where there is one root.

    Raises:
        BadInput: names the first of them and its double.
    """
    if plan.has_one_root():
        return
    roots = plan.roots
    for shard, entry in _loaded_by_time(plan):
        place = entry.place
        if place and roots.moved(place) != shard.place and not _are_alike(shard, place):
            raise BadInput(
                f"'{shard.place}' has the name, size and time of '{place}', whose rows are in the collection, and is no copy of what "
                f"stands there: nothing was written. If the files were moved or are mounted elsewhere, set source.moved_from: "
                f"{_root_of(place, shard)}; if it is another file, give it another time (`touch`)"
            )


def _loaded_by_time(plan: Plan) -> Iterator[tuple[Shard, Loaded]]:
    held = DigestSet(plan.checkpoint.noted_ids(plan.target))
    wanted = (shard for shard in plan if shard.id in held and any(file.is_timed for file in shard.span.files))
    found = ahead(lambda shard: (shard, plan.checkpoint.read_load(plan.target, shard.id)), wanted)
    return ((shard, entry) for shard, entry in found if entry)


def _root_of(place: str, shard: Shard) -> str:
    return place.removesuffix(shard.group).rstrip("/") or "/"


def _are_alike(shard: Shard, place: str) -> bool:
    """Whether the files that a shard was made of are still where they were, byte by byte what the planned ones are."""
    root = _root_of(place, shard)
    return all(_is_copy(file.path, f"{root}/{file.name}") for file in shard.span.files)


def _is_copy(path: str, other: str) -> bool:
    return os.path.isfile(path) and os.path.isfile(other) and filecmp.cmp(path, other, shallow=False)  # noqa: PTH113 - as they are planned
