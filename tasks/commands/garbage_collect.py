"""Garbage collection: remove what killed, superseded and abandoned runs left in the checkpoint and at the target.

Three kinds: unreferenced objects of the checkpoint (`tasks.commands.unreferenced_objects`), unfinished files, and collections
(`tasks.commands.abandoned_collections`). Each is found on a listing and checked again before it is removed: a run may have begun meanwhile.
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
    keys: int = 0  # files of keys of former seals and owners; included in `bytes`
    unfinished: int = 0  # files in a folder that a killed process was writing; included in `bytes`
    collections: tuple[str, ...] = ()
    unseen: str = ""  # why collections were not inspected, or not all of them dropped
    unread: tuple[str, ...] = ()  # seals and owners that cannot be read: what they may reference is kept
    failed: str = ""  # why not everything was removed

    @property
    def summary(self) -> dict[str, Any]:
        """The JSON document that `gc --json` prints."""
        return asdict(self)


def _no_progress(*_: object) -> None:
    """Show no progress."""


def sweep(job: Job, *, delete: bool, progress: SweepProgress = _no_progress) -> Swept:
    """Find the garbage of a corpus, under every encoder it was ever embedded with; with `delete`, remove it.

    A failure while removing is part of the result, with everything that was removed before it.

    Raises:
        KitestringError: the checkpoint cannot be read; nothing was removed.
    """
    store = open_store(job.checkpoint)
    seen = survey_corpus(store, job.corpus, progress)
    found = find_unreferenced(seen, progress)
    gone, failed = remove_unreferenced(seen, found, progress) if delete else (keys_of(found), "")
    unfinished = list(_unfinished(store, job.corpus, seen.activity.now))
    for path, _ in unfinished if delete else ():
        path.unlink(missing_ok=True)
    collections, unseen = _collections(job, seen, delete=delete)
    parts = sum(1 for key in gone if part_rows(key))
    return Swept(
        parts=parts,
        keys=len(gone) - parts,
        bytes=sum(seen.sizes.get(key, 0) for key in gone) + sum(size for _, size in unfinished),
        unfinished=len(unfinished),
        collections=tuple(collections),
        deleted=delete,
        busy=seen.activity.busy,
        unseen=unseen,
        unread=tuple(sorted(seen.unread)),
        failed=failed,
    )


def _unfinished(store: Store, corpus: str, now: float) -> Iterator[tuple[Path, int]]:
    """Yield unfinished files that were not written to for a day. Only a folder has such files; a bucket's lifecycle rule removes them."""
    if isinstance(store, FolderStore):
        for prefix in (corpus, PROBE_PREFIX):
            for path, status in store.unfinished(prefix):
                if now - status.st_mtime >= PROTECTED_SECONDS:
                    yield path, status.st_size


def _collections(job: Job, seen: Seen, *, delete: bool) -> tuple[list[str], str]:
    """Names of abandoned collections, with `delete` of the dropped ones; and why some were not inspected. Never raises for the target."""
    dropped: list[str] = []
    try:
        imports = list(find_imports(job, seen.store, seen.silent))
        names = find_abandoned(job, seen.store, seen.silent)
        if not delete:
            return [*names, *(attempt.collection for _, _, attempt in imports)], ""
        for name, fingerprint in names.items():
            if _still_silent(seen, fingerprint) and drop(job, name):
                dropped.append(name)
        for checkpoint, target, attempt in imports:
            drop_import(job, checkpoint, target, attempt)
            dropped.append(attempt.collection)
    except KitestringError as error:
        return dropped, str(error)
    return dropped, ""


def _still_silent(seen: Seen, fingerprint: str) -> bool:
    """Whether nothing was written under an encoder for a day: since the listing a run may have used it again."""
    written = seen.store.list(f"{seen.checkpoint(fingerprint).layout.root}/")
    return all(seen.activity.now - stored.modified >= PROTECTED_SECONDS for stored in written)
