"""Garbage: what killed, beaten and abandoned runs have left in the checkpoint and at the target, and that nothing will ever name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.abandoned import drop_all, drop_import, find_abandoned, find_imports
from tasks.adapters.checkpoint import Checkpoint
from tasks.adapters.store_folder import FolderStore
from tasks.adapters.stores import PROBES, open_store, store_clock
from tasks.domain.errors import KitestringError
from tasks.domain.garbage import DAY, Activity, garbage
from tasks.domain.job import Job
from tasks.domain.layout import part_rows
from tasks.domain.ports import Store

READERS = 16
_PLACE = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/(?P<folder>shards|owners)/(?P<name>[^/]+)/([^/]+/part-|keys-|)[^/]+\.parquet")
_ENCODER = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/")
_Place = tuple[str, str, str]  # an encoder's fingerprint, the folder, and the shard or the target in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was found, and whether it is gone now."""

    parts: int
    bytes: int
    deleted: bool
    busy: bool
    keys: int = 0  # files of keys, of seals and owners that are no more; their bytes are counted
    unfinished: int = 0  # files that a killed process was writing into a folder; their bytes are counted
    collections: tuple[str, ...] = ()
    unseen: str = ""  # why collections were not looked at

    @property
    def summary(self) -> dict[str, Any]:
        """What `gc --json` prints."""
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What one listing of a corpus tells."""

    activity: Activity
    files: dict[_Place, list[tuple[str, int]]] = field(default_factory=dict)  # that something has to name, with their sizes
    encoders: dict[str, float] = field(default_factory=dict)  # by fingerprint, when anything was last written under it

    @property
    def silent(self) -> dict[str, float]:
        """Encoders under which nothing was written for a day, and for how many seconds."""
        since = {fingerprint: self.activity.now - latest for fingerprint, latest in self.encoders.items()}
        return {fingerprint: seconds for fingerprint, seconds in since.items() if seconds >= DAY}


def sweep(job: Job, *, delete: bool) -> Swept:
    """Find the garbage of a corpus, under every encoder it was ever embedded with; remove it where `delete`."""
    store = open_store(job.checkpoint)
    seen = _listed(store, job.corpus)
    sizes = {key: size for files in seen.files.values() for key, size in files}
    parts = keys = bytes_ = 0
    for key in _garbage(store, job.corpus, seen):
        parts, keys = (parts + 1, keys) if part_rows(key) else (parts, keys + 1)
        bytes_ += sizes[key]
        if delete:
            store.delete(key)
    torn = list(_unfinished(store, job.corpus, seen.activity.now))
    for path, _ in torn if delete else ():
        path.unlink(missing_ok=True)
    bytes_ += sum(size for _, size in torn)
    collections, unseen = _collections(job, store, seen, delete=delete)
    return Swept(
        parts=parts,
        keys=keys,
        bytes=bytes_,
        unfinished=len(torn),
        collections=tuple(collections),
        deleted=delete,
        busy=seen.activity.busy,
        unseen=unseen,
    )


def _collections(job: Job, store: Store, seen: _Seen, *, delete: bool) -> tuple[list[str], str]:
    """Names of collections that nobody goes back to; dropped where `delete`. A target that is away hinders nothing else."""
    try:
        imports = list(find_imports(job, store, seen.silent))
        names = find_abandoned(job, store, seen.silent)
        if delete:
            names = drop_all(job, names)
        for checkpoint, target, attempt in imports if delete else ():
            drop_import(job, checkpoint, target, attempt)
    except KitestringError as error:
        return [], str(error)
    return [*names, *(attempt.collection for _, _, attempt in imports)], ""


def _unfinished(store: Store, corpus: str, now: float) -> Iterator[tuple[Path, int]]:
    """What nobody has written to for a day. Only a folder shows such files: of a bucket its lifecycle rule takes care."""
    if isinstance(store, FolderStore):
        for prefix in (corpus, PROBES):
            for path, status in store.unfinished(prefix):
                if now - status.st_mtime >= DAY:
                    yield path, status.st_size


def _listed(store: Store, corpus: str) -> _Seen:
    """Every part and file of keys by encoder and shard or target; and who wrote when."""
    seen = _Seen(activity=Activity(now=store_clock(store)))
    for stored in store.list(f"{corpus}/"):
        seen.activity.note(stored.key, stored.modified)
        encoder, place = _ENCODER.match(stored.key), _PLACE.fullmatch(stored.key)
        if encoder:
            seen.encoders[encoder["fingerprint"]] = max(seen.encoders.get(encoder["fingerprint"], 0.0), stored.modified)
        if place:
            where = (place["fingerprint"], place["folder"], place["name"])
            seen.files.setdefault(where, []).append((stored.key, stored.size))
    return seen


def _garbage(store: Store, corpus: str, seen: _Seen) -> Iterator[str]:
    """Reads the seal of each shard that has an old file, and the owners that have one; several at a time."""
    old = {place: [key for key, _ in files if seen.activity.is_old(key)] for place, files in seen.files.items()}
    places = [place for place, keys in old.items() if keys]

    def of_place(place: _Place) -> list[str]:
        fingerprint, folder, name = place
        checkpoint = Checkpoint(store, corpus, fingerprint)
        named = _named_by_seal(checkpoint, name) if folder == "shards" else _named_by_owners(checkpoint, name, busy=seen.activity.busy)
        return list(garbage(old[place], seen.activity, named=named))

    with ThreadPoolExecutor(READERS, thread_name_prefix="gc") as readers:
        for keys in readers.map(of_place, places):
            yield from keys


def _named_by_seal(checkpoint: Checkpoint, shard: str) -> set[str] | None:
    seal = checkpoint.effective_seal(shard)
    return {checkpoint.layout.keys(shard, seal.digest), *(part.key for part in seal.parts)} if seal else None


def _named_by_owners(checkpoint: Checkpoint, target: str, *, busy: bool) -> set[str] | None:
    """None while a run may be at work: one that settles what was settled before writes the same table, and names it later."""
    owners = None if busy else checkpoint.read_owners(target)
    return {owners.table} if owners and owners.table else None
