"""Garbage: parts that killed or beaten runs have left, and that nothing will ever name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.checkpoint import Checkpoint
from tasks.adapters.store_folder import FolderStore
from tasks.adapters.stores import PROBES, open_store, store_clock
from tasks.domain.garbage import DAY, Activity, garbage
from tasks.domain.job import Job
from tasks.domain.ports import Store

READERS = 16
_PLACE = re.compile(r"(?P<corpus>[^/]+)/(?P<fingerprint>[^/]+)/shards/(?P<shard>[^/]+)/[^/]+/part-[^/]+\.parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was found, and whether it is gone now."""

    parts: int
    bytes: int
    deleted: bool
    busy: bool
    unfinished: int = 0  # files that a killed process was writing into a folder; their bytes are counted

    @property
    def summary(self) -> dict[str, Any]:
        """What `gc --json` prints."""
        return asdict(self)


def sweep(job: Job, *, delete: bool) -> Swept:
    """Find the garbage of a corpus, under every encoder it was ever embedded with; remove it where `delete`."""
    store = open_store(job.checkpoint)
    found, activity = _candidates(store, job.corpus)
    sizes = {key: size for parts in found.values() for key, size in parts}
    parts = bytes_ = 0
    for key in _garbage(store, job.corpus, found, activity):
        parts += 1
        bytes_ += sizes[key]
        if delete:
            store.delete(key)
    torn = list(_unfinished(store, job.corpus, activity.now))
    for path, _ in torn if delete else ():
        path.unlink(missing_ok=True)
    bytes_ += sum(size for _, size in torn)
    return Swept(parts=parts, bytes=bytes_, deleted=delete, busy=activity.busy, unfinished=len(torn))


def _unfinished(store: Store, corpus: str, now: float) -> Iterator[tuple[Path, int]]:
    """What nobody has written to for a day. Only a folder shows such files: of a bucket its lifecycle rule takes care."""
    if isinstance(store, FolderStore):
        for prefix in (corpus, PROBES):
            for path, status in store.unfinished(prefix):
                if now - status.st_mtime >= DAY:
                    yield path, status.st_size


def _candidates(store: Store, corpus: str) -> tuple[dict[tuple[str, str], list[tuple[str, int]]], Activity]:
    """Every part by encoder and shard, with its size; and who wrote when."""
    activity = Activity(now=store_clock(store))
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for stored in store.list(f"{corpus}/"):
        activity.note(stored.key, stored.modified)
        place = _PLACE.fullmatch(stored.key)
        if place:
            found.setdefault((place["fingerprint"], place["shard"]), []).append((stored.key, stored.size))
    return found, activity


def _garbage(store: Store, corpus: str, found: dict[tuple[str, str], list[tuple[str, int]]], activity: Activity) -> Iterator[str]:
    """Reads the seal of each shard that has an old part; several at a time."""
    old = {place: [key for key, _ in parts if activity.is_old(key)] for place, parts in found.items()}
    places = [place for place, keys in old.items() if keys]

    def of_shard(place: tuple[str, str]) -> list[str]:
        fingerprint, shard = place
        seal = Checkpoint(store, corpus, fingerprint).effective_seal(shard)
        named = {part.key for part in seal.parts} if seal else None
        return list(garbage(old[place], activity, named=named))

    with ThreadPoolExecutor(READERS, thread_name_prefix="gc") as readers:
        for keys in readers.map(of_shard, places):
            yield from keys
