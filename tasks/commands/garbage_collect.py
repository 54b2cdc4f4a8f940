"""Garbage: what killed, beaten and abandoned runs have left in the checkpoint and at the target, and that nothing will ever name.

Three kinds: unreferenced objects of the checkpoint (`tasks.commands.unreferenced_objects`), files that were never finished, and collections
(`tasks.commands.abandoned_collections`). Each is decided on a listing and looked at again before it goes: a run may have begun in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.adapters.object_store.folder_store import FolderStore
from tasks.adapters.object_store.registry import PROBE_PREFIX, open_store
from tasks.commands.abandoned_collections import drop, drop_import, find_abandoned, find_imports
from tasks.commands.unreferenced_objects import Seen, SweepProgress, find_unreferenced, keys_of, remove_unreferenced, survey_corpus
from tasks.domain.errors import KitestringError
from tasks.domain.job.job import Job
from tasks.domain.ports import Store
from tasks.domain.shards.garbage import PROTECTED_SECONDS
from tasks.domain.shards.layout import part_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What was found or, after --delete, what was removed."""

    parts: int
    bytes: int
    deleted: bool
    busy: bool
    keys: int = 0  # files of keys, of seals and owners that are no more; their bytes are counted
    unfinished: int = 0  # files that a killed process was writing into a folder; their bytes are counted
    collections: tuple[str, ...] = ()
    unseen: str = ""  # why collections were not looked at, or not all of them dropped
    unread: tuple[str, ...] = ()  # seals and owners that cannot be read: what they may name stays
    failed: str = ""  # why not all was removed

    @property
    def summary(self) -> dict[str, Any]:
        """What `gc --json` prints."""
        return asdict(self)


def _nobody(*_: object) -> None:
    """No progress display."""


def sweep(job: Job, *, delete: bool, tell: SweepProgress = _nobody) -> Swept:
    """Find the garbage of a corpus, under every encoder it was ever embedded with; remove it where `delete`.

    A failure is part of the result, with everything that was removed before it.

    Raises:
        KitestringError: the checkpoint cannot be looked at; nothing was removed.
    """
    store = open_store(job.checkpoint)
    seen = survey_corpus(store, job.corpus, tell)
    found = find_unreferenced(seen, tell)
    gone, failed = remove_unreferenced(seen, found, tell) if delete else (keys_of(found), "")
    torn = list(_unfinished(store, job.corpus, seen.activity.now))
    for path, _ in torn if delete else ():
        path.unlink(missing_ok=True)
    collections, unseen = _collections(job, seen, delete=delete)
    parts = sum(1 for key in gone if part_rows(key))
    return Swept(
        parts=parts,
        keys=len(gone) - parts,
        bytes=sum(seen.sizes.get(key, 0) for key in gone) + sum(size for _, size in torn),
        unfinished=len(torn),
        collections=tuple(collections),
        deleted=delete,
        busy=seen.activity.busy,
        unseen=unseen,
        unread=tuple(sorted(seen.unread)),
        failed=failed,
    )


def _unfinished(store: Store, corpus: str, now: float) -> Iterator[tuple[Path, int]]:
    """What nobody has written to for a day. Only a folder shows such files: of a bucket its lifecycle rule takes care."""
    if isinstance(store, FolderStore):
        for prefix in (corpus, PROBE_PREFIX):
            for path, status in store.unfinished(prefix):
                if now - status.st_mtime >= PROTECTED_SECONDS:
                    yield path, status.st_size


def _collections(job: Job, seen: Seen, *, delete: bool) -> tuple[list[str], str]:
    """Names of abandoned collections; with `delete`, of those that were dropped. An unreachable target stops nothing else."""
    found: list[str] = []
    try:
        imports = list(find_imports(job, seen.store, seen.silent))
        names = find_abandoned(job, seen.store, seen.silent)
        if not delete:
            return [*names, *(attempt.collection for _, _, attempt in imports)], ""
        for name, fingerprint in names.items():
            if _still_silent(seen, fingerprint) and drop(job, name):
                found.append(name)
        for checkpoint, target, attempt in imports:
            drop_import(job, checkpoint, target, attempt)
            found.append(attempt.collection)
    except KitestringError as error:
        return found, str(error)
    return found, ""


def _still_silent(seen: Seen, fingerprint: str) -> bool:
    """A run that came back to an encoder since the listing has written something under it."""
    written = seen.store.list(f"{seen.checkpoint(fingerprint).layout.root}/")
    return all(seen.activity.now - stored.modified >= PROTECTED_SECONDS for stored in written)
