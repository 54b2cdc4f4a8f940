"""Abandoned collections of a corpus: neither live nor kept for a rollback.

A model that was tried and never promoted leaves its whole collection behind; so does a killed import that no run of its model
resumed. Only collections at the job's target that were filled from the corpus' own checkpoint are considered: their rows are in the
seals as well, and `kitestring replay` loads them again.
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
IMPORT_HOURS = 72.0  # a server may work on an import for this long, and a run of an older version writes nothing meanwhile


def find_abandoned(job: Job, store: Store, silent: Mapping[str, float]) -> dict[str, str]:
    """Collections at the job's target that may be dropped, each with the fingerprint of its encoder.

    Args:
        job: names the alias; the collection of its own encoder is always kept.
        store: of the corpus' checkpoint.
        silent: seconds since the last write under each encoder of the corpus, by fingerprint.

    Raises:
        KitestringError: the target cannot be read, or the job's own collection cannot be determined.
    """
    fingerprints = dict(_filled_from_here(job, store, silent))
    if not fingerprints:
        return {}
    hours = {name: silent[fingerprint] / HOUR for name, fingerprint in fingerprints.items()}
    kept = {live_collection(job), _own(job)}
    target, now = job.target, dt.datetime.now(dt.UTC)
    history = Promotions(store, job).read()
    names = abandoned(history, hours, kept=kept, keep_previous=target.keep_previous, grace=target.grace, now=now)
    return {name: fingerprints[name] for name in names}


def find_imports(job: Job, store: Store, silent: Mapping[str, float]) -> Iterator[tuple[Checkpoint, str, ImportAttempt]]:
    """Yield imports that no run resumed: the checkpoint, the fingerprint of the target, and the record."""
    for fingerprint, seconds in silent.items():
        checkpoint = Checkpoint(store, job.corpus, fingerprint)
        for target in _addresses(job, checkpoint) if seconds >= IMPORT_HOURS * HOUR else ():
            for attempt, _ in checkpoint.attempts(target).values():
                yield checkpoint, target, attempt


def _addresses(job: Job, checkpoint: Checkpoint) -> set[str]:
    """The addresses at the job's target for which an encoder has imports: with and without full text, with any analyzer."""
    folder = checkpoint.layout.imports("").removesuffix("/")
    keys = {key.removeprefix(folder).partition("/")[0]: key for key in (stored.key for stored in checkpoint.store.list(folder))}
    attempts = {address: checkpoint.read(key, ImportAttempt) for address, key in keys.items()}
    names = [collection_name(job.target.collection, checkpoint.layout.fingerprint), *(each.real_name for each in attempts.values() if each)]
    ours = {target_fingerprint(job.target, name) for name in names}
    return {address for address in ours if address in attempts} | {target_fingerprint(job.target, names[0])}


def drop(job: Job, name: str) -> bool:
    """Drop a collection. Returns False if it no longer exists or an alias points to it now."""
    with closing(open_target(job)) as target:
        return target.drop(name)


def drop_import(job: Job, checkpoint: Checkpoint, target: str, attempt: ImportAttempt) -> None:
    """Drop the collection and the staged files of an abandoned import."""
    discard(job, checkpoint, target, attempt)


def _filled_from_here(job: Job, store: Store, silent: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield name and fingerprint of existing collections that were created for this alias and filled from this checkpoint."""
    with closing(open_target(job)) as target:
        names = [name for name in target.names() if name.startswith(f"{job.target.collection}_")]
        for name in names:
            collection = target.collection(name)
            spec = _described(collection)
            if spec is None or spec.fingerprint not in silent or name != _name_of(job, spec):
                continue
            layout = Layout(corpus=job.corpus, fingerprint=spec.fingerprint)
            ledger = layout.loads(collection.identity() or target_fingerprint(job.target, name))
            if next(store.list(ledger), None) is not None:
                yield name, spec.fingerprint


def _name_of(job: Job, spec: CollectionSpec) -> str | None:
    """The name that a collection of this job's alias must have; None if it belongs to another alias."""
    return collection_name(job.target.collection, spec.fingerprint, spec.full_text) if spec.alias == job.target.collection else None


def _described(collection: Collection) -> CollectionSpec | None:
    try:
        return collection.describe()
    except BadInput:
        return None


def _own(job: Job) -> str | None:
    """The collection of the job's own encoder; None if no run has pinned the encoder."""
    pinned = locate_job(job).pinned()
    return collection_name(job.target.collection, pinned.identity.fingerprint, job.target.stored_as.full_text) if pinned else None
