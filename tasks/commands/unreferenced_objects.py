"""Unreferenced objects of a checkpoint: found on one listing, and checked again before they are removed.

A run may begin at any moment of a sweep. So candidates are checked again before removal: the seals, under a mark that runs honour
(`tasks.adapters.checkpoint.condemned` explains why no loaded shard can lose a part to that), and recent writes. A sweep may be killed at
any point, and several may run at once.

To sweep another folder: add a line to `_REFERENCED`, and its objects' names to `_PLACE` and to `tasks.domain.shards.layout.writer_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from functools import partial

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.condemned import condemn, condemned_by
from tasks.adapters.concurrent_map import ahead
from tasks.adapters.object_store.registry import store_clock
from tasks.domain.errors import BadInput, KitestringError, Permanent
from tasks.domain.ports import Store
from tasks.domain.shards.garbage import PROTECTED_SECONDS, Activity, garbage

SEAL_READERS = 16  # seals that are read at a time
BATCH = 1_000  # objects under one mark: the number that S3 removes in one call
BATCHES = 3  # batches at a time
_PLACE = re.compile(
    r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/(?P<folder>shards|owners)/(?P<name>[^/]+)/([^/]+/part-|[^/]+/digests|keys-|)[^/]*\.parquet"
)
_SEAL = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/shards/(?P<name>[^/]+)/seal\.json")
_ENCODER = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/(?P<mark>condemned/)?")
_Place = tuple[str, str, str]  # an encoder's fingerprint, the folder, and the shard or the target in it
Files = dict[_Place, list[str]]
SweepProgress = Callable[[str, int, int | None], None]
"""Called with the action, the number done, and the total if that is known."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """The result of one listing of a corpus."""

    store: Store
    corpus: str
    activity: Activity
    files: Files = field(default_factory=dict)  # that must be referenced to be kept
    sizes: dict[str, int] = field(default_factory=dict)  # of `files`, in bytes
    sealed: set[_Place] = field(default_factory=set)
    encoders: dict[str, float] = field(default_factory=dict)  # fingerprint: time of the last write under it
    marks: list[tuple[str, str]] = field(default_factory=list)  # fingerprint and key of marks that an earlier sweep left
    unread: set[str] = field(default_factory=set)  # errors of seals and owners that could not be read

    def is_unsealed(self, place: _Place) -> bool:
        """Whether the place is a shard without a seal in the listing."""
        return place[1] == "shards" and place not in self.sealed

    def checkpoint(self, fingerprint: str) -> Checkpoint:
        return Checkpoint(self.store, self.corpus, fingerprint)

    @property
    def silent(self) -> dict[str, float]:
        """Encoders under which nothing was written for a day, with the seconds since the last write."""
        since = {fingerprint: self.activity.now - latest for fingerprint, latest in self.encoders.items()}
        return {fingerprint: seconds for fingerprint, seconds in since.items() if seconds >= PROTECTED_SECONDS}


def survey_corpus(store: Store, corpus: str, progress: SweepProgress) -> Seen:
    """List every part and file of keys by encoder and shard or target, and the times of writes."""
    seen = Seen(store=store, corpus=corpus, activity=Activity(now=store_clock(store)))
    for number, stored in enumerate(store.list(f"{corpus}/"), 1):
        encoder, place = _ENCODER.match(stored.key), _PLACE.fullmatch(stored.key)
        if encoder and encoder["mark"]:  # written by a sweep, not by a run
            if seen.activity.now - stored.modified >= PROTECTED_SECONDS:
                seen.marks.append((encoder["fingerprint"], stored.key))
            continue
        seen.activity.note(stored.key, stored.modified)
        if encoder:
            seen.encoders[encoder["fingerprint"]] = max(seen.encoders.get(encoder["fingerprint"], 0.0), stored.modified)
        if place:
            seen.files.setdefault((place["fingerprint"], place["folder"], place["name"]), []).append(stored.key)
            seen.sizes[stored.key] = stored.size
        seal = _SEAL.fullmatch(stored.key)
        if seal:
            seen.sealed.add((seal["fingerprint"], "shards", seal["name"]))
        if not number % BATCH:
            progress("listed", number, None)
    return seen


def find_unreferenced(seen: Seen, progress: SweepProgress) -> Files:
    """Find candidates: reads the seals of sealed shards with old files, and the owners with old files; several at a time."""
    old = {place: [key for key in keys if seen.activity.is_old(key)] for place, keys in seen.files.items()}
    found, to_read = dict[_Place, list[str]](), dict[_Place, list[str]]()
    for place, keys in old.items():
        if keys and seen.is_unsealed(place):
            found[place] = list(garbage(keys, seen.activity, named=None))
        elif keys:
            to_read[place] = keys
    for number, (place, keys) in enumerate(_unreferenced(seen, to_read), 1):
        found[place] = keys
        if not number % BATCH:
            progress("checked", number, len(to_read))
    return {place: keys for place, keys in found.items() if keys}


def _unreferenced(seen: Seen, files: Files) -> Iterator[tuple[_Place, list[str]]]:
    """Yield the files of each place that are garbage now."""

    def of_place(place: _Place) -> tuple[_Place, list[str]]:
        try:
            return place, list(_garbage_now(seen, place, files[place]))
        except BadInput:  # an error of the store, not of a seal
            raise
        except Permanent as error:  # a damaged seal must not keep all other garbage
            seen.unread.add(str(error))
            return place, []

    return ahead(of_place, files, at_once=SEAL_READERS)


def _garbage_now(seen: Seen, place: _Place, keys: list[str]) -> Iterator[str]:
    fingerprint, folder, name = place
    checkpoint = seen.checkpoint(fingerprint)
    recent = _recent_activity(seen, checkpoint, name) if seen.is_unsealed(place) else None
    if recent:
        return garbage(keys, recent, named=None)
    referenced = _REFERENCED[folder](checkpoint, name, busy=seen.activity.busy)
    withdrawn = referenced is None and folder == "shards"  # the seal was withdrawn since the listing, by an active run
    return iter(()) if withdrawn else garbage(keys, seen.activity, named=referenced)


def _recent_activity(seen: Seen, checkpoint: Checkpoint, shard: str) -> Activity | None:
    """The writes in a shard's folder up to now, since a run may have begun to work on it; None if it is sealed now. One call."""
    activity = Activity(now=seen.activity.now, latest=seen.activity.latest)
    for stored in checkpoint.store.list(checkpoint.layout.shard(shard)):
        if stored.key == checkpoint.layout.seal(shard):
            return None
        activity.note(stored.key, stored.modified)
    return activity


def remove_unreferenced(seen: Seen, found: Files, progress: SweepProgress) -> tuple[list[str], str]:
    """Remove garbage in batches, each under a mark of its own. Returns the removed keys, and the error if not all were removed."""
    gone: list[str] = []  # each batch appends its own keys, so that they are counted if another batch fails
    total = len(keys_of(found))
    try:
        for mark in seen.marks:
            _carry_out(seen, gone, *mark)
        before = set(gone)
        left = {place: [key for key in keys if key not in before] for place, keys in found.items()}
        for _ in ahead(partial(_remove, seen, gone), _batches(left), at_once=BATCHES):
            progress("removed", len(gone), total)
    except KitestringError as error:
        return gone, str(error)
    return gone, ""


def _batches(files: Files) -> Iterator[Files]:
    """Yield batches of places, each of one encoder."""
    batch: Files = {}
    for place in sorted(files):
        other = batch and next(iter(batch))[0] != place[0]
        if batch and (other or len(keys_of(batch)) + len(files[place]) > BATCH):
            yield batch
            batch = {}
        batch[place] = files[place]
    if batch:
        yield batch


def _remove(seen: Seen, gone: list[str], batch: Files) -> None:
    """Mark the candidates, check them again, and remove those that are still garbage."""
    checkpoint = seen.checkpoint(next(iter(batch))[0])
    mark = condemn(checkpoint.store, checkpoint.layout, (key for keys in batch.values() for key in keys))
    try:
        keys = keys_of(dict(_unreferenced(seen, batch)))
    except BaseException:
        seen.store.delete(mark)  # nothing was removed
        raise
    seen.store.delete_many(keys)  # if it fails, some keys may still be deleted later: the mark stays
    gone += keys
    seen.store.delete(mark)


def _carry_out(seen: Seen, gone: list[str], fingerprint: str, mark: str) -> None:
    """Remove what a killed sweep had marked, and the mark once none of it is left."""
    left: Files = {}
    for key in condemned_by(seen.store, mark):
        place = _PLACE.fullmatch(key) if key in seen.sizes else None
        if place and place["fingerprint"] == fingerprint:
            left.setdefault((place["fingerprint"], place["folder"], place["name"]), []).append(key)
    keys = keys_of(dict(_unreferenced(seen, left)))
    seen.store.delete_many(keys)
    gone += keys
    if len(keys) == len(keys_of(left)):
        seen.store.delete(mark)


def keys_of(files: Files) -> list[str]:
    """The keys of all places."""
    return [key for keys in files.values() for key in keys]


def _referenced_by_seal(checkpoint: Checkpoint, shard: str, *, busy: bool) -> Container[str] | None:  # noqa: ARG001 - a seal counts at once
    seal = checkpoint.effective_seal(shard)
    layout = checkpoint.layout
    return {layout.keys(shard, seal.digest), layout.digests(shard, seal.attempt), *(part.key for part in seal.parts)} if seal else None


def _referenced_by_owners(checkpoint: Checkpoint, target: str, *, busy: bool) -> Container[str] | None:
    """None while a run may be active: it references a table only after it has written it."""
    owners = None if busy else checkpoint.read_owners(target)
    return {owners.table} if owners and owners.table else None


_REFERENCED: dict[str, Callable[..., Container[str] | None]] = {"shards": _referenced_by_seal, "owners": _referenced_by_owners}
"""For each folder of an encoder: the keys that the document of a shard or target references; None: there is no document yet."""
