"""Unreferenced: objects of a checkpoint that something has to name and nothing does; found on one listing, removed on another look.

A run may begin at any moment of a sweep. So what the listing showed is looked at again before it goes: the seals, under a
mark that runs honour (`tasks.adapters.checkpoint.condemned` says why no loaded shard can lose a part to that), and what was written
since. A sweep may be killed anywhere, and several may be at work.

To sweep another place: a line in `_NAMED`, and its objects' names in `_PLACE` and in `tasks.domain.shards.layout.writer_of`.
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

SEAL_READERS = 16  # of seals, at a time
BATCH = 1_000  # objects under one mark: as many as S3 removes in one call
BATCHES = 3  # at a time
_PLACE = re.compile(
    r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/(?P<folder>shards|owners)/(?P<name>[^/]+)/([^/]+/part-|[^/]+/digests|keys-|)[^/]*\.parquet"
)
_SEAL = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/shards/(?P<name>[^/]+)/seal\.json")
_ENCODER = re.compile(r"[^/]+/(?P<fingerprint>[0-9a-f]{32})/(?P<mark>condemned/)?")
_Place = tuple[str, str, str]  # an encoder's fingerprint, the folder, and the shard or the target in it
Files = dict[_Place, list[str]]
SweepProgress = Callable[[str, int, int | None], None]
"""Is told what is done, how far it is, and of how many if that is known."""


@dataclass(slots=True, kw_only=True)
class Seen:
    """The content of one listing of a corpus."""

    store: Store
    corpus: str
    activity: Activity
    files: Files = field(default_factory=dict)  # that something has to name
    sizes: dict[str, int] = field(default_factory=dict)  # of those
    sealed: set[_Place] = field(default_factory=set)
    encoders: dict[str, float] = field(default_factory=dict)  # by fingerprint, when anything was last written under it
    marks: list[tuple[str, str]] = field(default_factory=list)  # fingerprint and key of those that an earlier sweep has left
    unread: set[str] = field(default_factory=set)  # why what a place names is not known

    def is_unsealed(self, place: _Place) -> bool:
        """A shard that had no seal when it was listed."""
        return place[1] == "shards" and place not in self.sealed

    def checkpoint(self, fingerprint: str) -> Checkpoint:
        return Checkpoint(self.store, self.corpus, fingerprint)

    @property
    def silent(self) -> dict[str, float]:
        """Encoders under which nothing was written for a day, and for how many seconds."""
        since = {fingerprint: self.activity.now - latest for fingerprint, latest in self.encoders.items()}
        return {fingerprint: seconds for fingerprint, seconds in since.items() if seconds >= PROTECTED_SECONDS}


def survey_corpus(store: Store, corpus: str, tell: SweepProgress) -> Seen:
    """Every part and file of keys by encoder and shard or target; and who wrote when."""
    seen = Seen(store=store, corpus=corpus, activity=Activity(now=store_clock(store)))
    for number, stored in enumerate(store.list(f"{corpus}/"), 1):
        encoder, place = _ENCODER.match(stored.key), _PLACE.fullmatch(stored.key)
        if encoder and encoder["mark"]:  # a sweep's, and no sign of a run
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
            tell("listed", number, None)
    return seen


def find_unreferenced(seen: Seen, tell: SweepProgress) -> Files:
    """The first look: reads the seal of each shard that has one and an old file, and the owners that have one; several at a time."""
    old = {place: [key for key in keys if seen.activity.is_old(key)] for place, keys in seen.files.items()}
    found, to_read = dict[_Place, list[str]](), dict[_Place, list[str]]()
    for place, keys in old.items():
        if keys and seen.is_unsealed(place):
            found[place] = list(garbage(keys, seen.activity, named=None))
        elif keys:
            to_read[place] = keys
    for number, (place, keys) in enumerate(_unnamed(seen, to_read), 1):
        found[place] = keys
        if not number % BATCH:
            tell("looked at", number, len(to_read))
    return {place: keys for place, keys in found.items() if keys}


def _unnamed(seen: Seen, files: Files) -> Iterator[tuple[_Place, list[str]]]:
    """Those of each place's files that are garbage as things are now."""

    def of_place(place: _Place) -> tuple[_Place, list[str]]:
        try:
            return place, list(_garbage_now(seen, place, files[place]))
        except BadInput:  # no seal, but the store itself
            raise
        except Permanent as error:  # one damaged seal is no reason to leave all other garbage
            seen.unread.add(str(error))
            return place, []

    return ahead(of_place, files, at_once=SEAL_READERS)


def _garbage_now(seen: Seen, place: _Place, keys: list[str]) -> Iterator[str]:
    fingerprint, folder, name = place
    checkpoint = seen.checkpoint(fingerprint)
    news = _news(seen, checkpoint, name) if seen.is_unsealed(place) else None
    if news:
        return garbage(keys, news, named=None)
    named = _NAMED[folder](checkpoint, name, busy=seen.activity.busy)
    withdrawn = named is None and folder == "shards"  # since the listing, by a run that is at work
    return iter(()) if withdrawn else garbage(keys, seen.activity, named=named)


def _news(seen: Seen, checkpoint: Checkpoint, shard: str) -> Activity | None:
    """What is written in a shard's folder by now, where it is still not sealed: one call, and a run may be at work on it since."""
    activity = Activity(now=seen.activity.now, latest=seen.activity.latest)
    for stored in checkpoint.store.list(checkpoint.layout.shard(shard)):
        if stored.key == checkpoint.layout.seal(shard):
            return None
        activity.note(stored.key, stored.modified)
    return activity


def remove_unreferenced(seen: Seen, found: Files, tell: SweepProgress) -> tuple[list[str], str]:
    """Remove garbage in batches, each under a mark of its own; the keys that are gone, and why not all of them are."""
    gone: list[str] = []  # by every batch itself, so that none is forgotten where another one fails
    total = len(keys_of(found))
    try:
        for mark in seen.marks:
            _carry_out(seen, gone, *mark)
        before = set(gone)
        left = {place: [key for key in keys if key not in before] for place, keys in found.items()}
        for _ in ahead(partial(_remove, seen, gone), _batches(left), at_once=BATCHES):
            tell("removed", len(gone), total)
    except KitestringError as error:
        return gone, str(error)
    return gone, ""


def _batches(files: Files) -> Iterator[Files]:
    """Some places at a time, of one encoder each."""
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
    """Mark the candidates, check again, remove what is still garbage."""
    checkpoint = seen.checkpoint(next(iter(batch))[0])
    mark = condemn(checkpoint.store, checkpoint.layout, (key for keys in batch.values() for key in keys))
    try:
        keys = keys_of(dict(_unnamed(seen, batch)))
    except BaseException:
        seen.store.delete(mark)  # nothing was removed
        raise
    seen.store.delete_many(keys)  # where that fails, nobody knows what may go yet: the mark stays
    gone += keys
    seen.store.delete(mark)


def _carry_out(seen: Seen, gone: list[str], fingerprint: str, mark: str) -> None:
    """Remove what a sweep that was killed had marked, and the mark once nothing of it is left."""
    left: Files = {}
    for key in condemned_by(seen.store, mark):
        place = _PLACE.fullmatch(key) if key in seen.sizes else None
        if place and place["fingerprint"] == fingerprint:
            left.setdefault((place["fingerprint"], place["folder"], place["name"]), []).append(key)
    keys = keys_of(dict(_unnamed(seen, left)))
    seen.store.delete_many(keys)
    gone += keys
    if len(keys) == len(keys_of(left)):
        seen.store.delete(mark)


def keys_of(files: Files) -> list[str]:
    """All of them."""
    return [key for keys in files.values() for key in keys]


def _named_by_seal(checkpoint: Checkpoint, shard: str, *, busy: bool) -> Container[str] | None:  # noqa: ARG001 - a seal counts at once
    seal = checkpoint.effective_seal(shard)
    layout = checkpoint.layout
    return {layout.keys(shard, seal.digest), layout.digests(shard, seal.attempt), *(part.key for part in seal.parts)} if seal else None


def _named_by_owners(checkpoint: Checkpoint, target: str, *, busy: bool) -> Container[str] | None:
    """None while a run may be at work, which names a table only after it was written."""
    owners = None if busy else checkpoint.read_owners(target)
    return {owners.table} if owners and owners.table else None


_NAMED: dict[str, Callable[..., Container[str] | None]] = {"shards": _named_by_seal, "owners": _named_by_owners}
"""For each folder of an encoder: what is named by that which stands in a place of it. None: nothing, as yet."""
