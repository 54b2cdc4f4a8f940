"""Attempts to import: each run's is its own, and no run ends one that another is at work on.

A run's attempt is a document that it rewrites every so often for as long as it lives. An attempt whose process has ended
(seen on its own machine), or that has been silent for some minutes by the store's clock, is another run's to finish or to
discard.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing, suppress
from types import TracebackType
from typing import Any, Self

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.object_store.registry import store_clock
from tasks.adapters.processes.process_mark import has_ended, is_this_process, this_process
from tasks.adapters.processes.supervisor import in_background
from tasks.domain.errors import KitestringError
from tasks.domain.job.job import Job
from tasks.domain.ports import Target
from tasks.domain.shards.import_attempt import ImportAttempt
from tasks.run.plan import Plan
from tasks.run.preflight import open_target

log = logging.getLogger("kitestring.load")

ATTEMPT_BEAT_SECONDS = 20.0
SILENT_SECONDS = 300.0
ENDING_SECONDS = 60.0
_at_work: list[str] = []  # runs whose attempts this process is at work on; two threads of it may be at one


class OwnAttempt:
    """An attempt that this run is at work on, and what the checkpoint says of it; entering begins to say so, leaving ends it."""

    def __init__(self, plan: Plan, attempt: ImportAttempt) -> None:
        self._plan, self.now = plan, attempt.model_copy(update={"process": this_process()})
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        _at_work.append(self.now.run)
        self.note()
        in_background(self._beat, name="import-attempt", failed=lambda error: log.error("%s", error))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:  # a beat under way is over then, and none follows
            if not self._over.is_set():
                self._over.set()
                _at_work.remove(self.now.run)

    def note(self, **update: Any) -> None:
        """Write down how far it is."""
        with self._lock:
            self.now = self.now.model_copy(update=update)
            self._plan.checkpoint.record_attempt(self._plan.address, self.now)

    def end(self) -> None:
        """Remove what it has staged, and forget it."""
        self.__exit__(None, None, None)
        with closing(self._plan.inspected.open_target()) as target:
            _forget(target, self._plan.checkpoint, self._plan.address, self.now)

    def discard(self) -> None:
        """Drop its collection as well, where that has not taken the real name."""
        self.__exit__(None, None, None)
        discard_left(self._plan, self.now)

    def _beat(self) -> None:
        while not self._over.wait(ATTEMPT_BEAT_SECONDS):
            try:
                with self._lock:
                    if not self._over.is_set():
                        self._plan.checkpoint.record_attempt(self._plan.address, self.now)
            except Exception as error:  # noqa: BLE001 - where it is not noted for long, others take the import for abandoned
                log.warning("the import of run %s could not be noted as under way: %s", self.now.run, error)


def attempts_of(plan: Plan) -> list[tuple[ImportAttempt, bool]]:
    """Every import attempt for the plan's collection, and whether it is abandoned."""
    found = plan.checkpoint.attempts(plan.address)
    now = store_clock(plan.checkpoint.store) if found else 0.0
    return [(attempt, _is_left(attempt, now - modified)) for attempt, modified in found.values()]


def collection_of(plan: Plan, run: str) -> str:
    """What a run's attempt fills."""
    return f"{plan.spec.name[:225]}_import_{run[-6:]}"


def note_again(plan: Plan) -> bool:
    """Note the attempts whose documents were found damaged by a run: whoever finds them silent discards what they have left."""
    folder, damages = plan.checkpoint.layout.imports(plan.address), plan.inspected.damages
    runs = [key.removeprefix(folder).removesuffix(".json") for key in damages.keys if damages.mends and key.startswith(folder)]
    for run in runs:
        plan.checkpoint.record_attempt(plan.address, ImportAttempt(run=run, collection=collection_of(plan, run), rows=0, covers=""))
    return bool(runs)


def _is_left(attempt: ImportAttempt, silent: float) -> bool:
    if attempt.process is not None and is_this_process(attempt.process):
        return attempt.run not in _at_work
    return silent >= SILENT_SECONDS or (attempt.process is not None and has_ended(attempt.process))


def discard_left(plan: Plan, attempt: ImportAttempt) -> None:
    """Drop what an unfinished attempt of the plan's collection has left, and forget it.

    Its jobs are given a while to end: Milvus 2.3.5 keeps one whose collection is gone for minutes, and starts no other meanwhile.
    """
    with closing(plan.inspected.open_target()) as target, suppress(KitestringError):
        loader, deadline = target.bulk_loader(), time.monotonic() + ENDING_SECONDS
        while loader and any(loader.look(job).state == "running" for job in attempt.jobs) and time.monotonic() < deadline:
            time.sleep(1)
    discard(plan.job, plan.checkpoint, plan.address, attempt)


def discard(job: Job, checkpoint: Checkpoint, address: str, attempt: ImportAttempt) -> None:
    """Drop what an unfinished attempt has left, and forget it."""
    if attempt.state == "imported":  # without its collection that would say that it has taken the real name
        checkpoint.record_attempt(address, attempt.model_copy(update={"state": "begun"}))
    with closing(open_target(job)) as target:
        target.drop(attempt.collection)
        _forget(target, checkpoint, address, attempt)


def _forget(target: Target, checkpoint: Checkpoint, address: str, attempt: ImportAttempt) -> None:
    if loader := target.bulk_loader():
        loader.clear(staged_at(address, attempt))
    checkpoint.forget_attempt(address, attempt.run)


def staged_at(address: str, attempt: ImportAttempt) -> str:
    """The prefix of what an attempt has staged, in the staging store."""
    return f"{address}/{attempt.run}"
