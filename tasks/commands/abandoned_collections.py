"""Abandoned collections of a corpus: not live and not kept for a rollback.

A model that was tried and never promoted leaves its whole collection behind, and so does an import that was killed and
whose model no run came back to. Of a job's target those are looked at that were filled from the corpus' own checkpoint: what
is in them is in the seals as well, and `kitestring replay` fills them again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import closing

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.promotion_log import Promotions
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job
from tasks.domain.ports import Collection, Store
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.domain.shards.layout import Layout
from tasks.domain.target.collection import CollectionSpec, collection_name, target_fingerprint
from tasks.domain.target.promotion import abandoned
from tasks.run.import_attempts import discard
from tasks.run.preflight import live_collection, locate_job, open_target

HOUR = 3600.0
IMPORT_HOURS = 72.0  # a server may work so long on an import, and a run of an older version writes nothing meanwhile


def find_abandoned(job: Job, store: Store, silent: Mapping[str, float]) -> dict[str, str]:
    """Collections at the job's target that may be dropped, each with the fingerprint of its encoder.

    Args:
        job: says which alias they stand beside, and which encoder's collection stays whatever became of it.
        store: with the corpus' checkpoint.
        silent: the encoders of the corpus by fingerprint, each with the seconds since anything was written under it.

    Raises:
        KitestringError: the target cannot be looked at, or it is not known which collection is the job's own.
    """
    made = dict(_made_here(job, store, silent))
    if not made:
        return {}
    hours = {name: silent[fingerprint] / HOUR for name, fingerprint in made.items()}
    kept = {live_collection(job), _own(job)}
    target, now = job.target, dt.datetime.now(dt.UTC)
    history = Promotions(store, job).read()
    left = abandoned(history, hours, kept=kept, keep_previous=target.keep_previous, grace=target.grace, now=now)
    return {name: made[name] for name in left}


def find_imports(job: Job, store: Store, silent: Mapping[str, float]) -> Iterator[tuple[Checkpoint, str, ImportAttempt]]:
    """Imports that no run resumed: their key, the fingerprint of the target, and the record."""
    for fingerprint, seconds in silent.items():
        checkpoint = Checkpoint(store, job.corpus, fingerprint)
        for target in _addresses(job, checkpoint) if seconds >= IMPORT_HOURS * HOUR else ():
            for attempt, _ in checkpoint.attempts(target).values():
                yield checkpoint, target, attempt


def _addresses(job: Job, checkpoint: Checkpoint) -> set[str]:
    """The addresses at the job's target that imports of an encoder were for: with and without full text, with whichever analyzer."""
    folder = checkpoint.layout.imports("").removesuffix("/")
    found = {key.removeprefix(folder).partition("/")[0]: key for key in (stored.key for stored in checkpoint.store.list(folder))}
    attempts = {address: checkpoint.read(key, ImportAttempt) for address, key in found.items()}
    names = [collection_name(job.target.collection, checkpoint.layout.fingerprint), *(each.real_name for each in attempts.values() if each)]
    ours = {target_fingerprint(job.target, name) for name in names}
    return {address for address in ours if address in attempts} | {target_fingerprint(job.target, names[0])}


def drop(job: Job, name: str) -> bool:
    """Drop a collection. False: it is gone already, or an alias points to it by now."""
    with closing(open_target(job)) as target:
        return target.drop(name)


def drop_import(job: Job, checkpoint: Checkpoint, target: str, attempt: ImportAttempt) -> None:
    """Drop what an import has left at the target and in its staging place."""
    discard(job, checkpoint, target, attempt)


def _made_here(job: Job, store: Store, silent: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Collections that are there, were made for this alias and were filled from here, and the encoder that made them."""
    with closing(open_target(job)) as target:
        names = [name for name in target.names() if name.startswith(f"{job.target.collection}_")]
        for name in names:
            collection = target.collection(name)
            made = _made(collection)
            if made is None or made.fingerprint not in silent or name != _name_of(job, made):
                continue
            layout = Layout(corpus=job.corpus, fingerprint=made.fingerprint)
            ledger = layout.loads(collection.identity() or target_fingerprint(job.target, name))
            if next(store.list(ledger), None) is not None:
                yield name, made.fingerprint


def _name_of(job: Job, made: CollectionSpec) -> str | None:
    """The name that a collection of this job's alias has; None: it is another's."""
    return collection_name(job.target.collection, made.fingerprint, made.full_text) if made.alias == job.target.collection else None


def _made(collection: Collection) -> CollectionSpec | None:
    try:
        return collection.describe()
    except BadInput:
        return None


def _own(job: Job) -> str | None:
    """The collection of the job's own encoder; None where no run has settled that."""
    pinned = locate_job(job).pinned()
    return collection_name(job.target.collection, pinned.identity.fingerprint, job.target.stored_as.full_text) if pinned else None
