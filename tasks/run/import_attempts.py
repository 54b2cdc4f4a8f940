"""Import attempts: each belongs to one run, and no run ends an attempt that another run is working on.

An attempt is a document that its run rewrites at an interval while it lives. If its process has ended (detected on the same
machine), or it has not been rewritten for some minutes by the store's clock, it is abandoned: another run may finish or discard it.
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
_active: list[str] = []  # runs whose attempts this process is working on; an entry for each thread, since two may share one


class OwnAttempt:
    """An attempt that this run is working on, with its document in the checkpoint, which is kept fresh while the context is entered."""

    def __init__(self, plan: Plan, attempt: ImportAttempt) -> None:
        self._plan, self.now = plan, attempt.model_copy(update={"process": this_process()})
        self._lock, self._over = threading.Lock(), threading.Event()

    def __enter__(self) -> Self:
        _active.append(self.now.run)
        self.note()
        in_background(self._beat, name="import-attempt", failed=lambda error: log.error("%s", error))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:  # waits for a beat in progress; none follows
            if not self._over.is_set():
                self._over.set()
                _active.remove(self.now.run)

    def note(self, **update: Any) -> None:
        """Record the progress of the attempt."""
        with self._lock:
            self.now = self.now.model_copy(update=update)
            self._plan.checkpoint.record_attempt(self._plan.address, self.now)

    def end(self) -> None:
        """Remove the staged files and the document of the attempt."""
        self.__exit__(None, None, None)
        with closing(self._plan.inspected.open_target()) as target:
            _forget(target, self._plan.checkpoint, self._plan.address, self.now)

    def discard(self) -> None:
        """End the attempt and drop its collection, unless that was renamed to the real name."""
        self.__exit__(None, None, None)
        discard_attempt(self._plan, self.now)

    def _beat(self) -> None:
        while not self._over.wait(ATTEMPT_BEAT_SECONDS):
            try:
                with self._lock:
                    if not self._over.is_set():
                        self._plan.checkpoint.record_attempt(self._plan.address, self.now)
            except Exception as error:  # noqa: BLE001 - only if this fails for minutes, other runs consider the import abandoned
                log.warning("the document of the import of run %s could not be refreshed: %s", self.now.run, error)


def attempts_of(plan: Plan) -> list[tuple[ImportAttempt, bool]]:
    """Every import attempt for the plan's collection, and whether it is abandoned."""
    attempts = plan.checkpoint.attempts(plan.address)
    now = store_clock(plan.checkpoint.store) if attempts else 0.0
    return [(attempt, _is_abandoned(attempt, now - modified)) for attempt, modified in attempts.values()]


def collection_of(plan: Plan, run: str) -> str:
    """The name of the collection that a run's attempt fills."""
    return f"{plan.spec.name[:225]}_import_{run[-6:]}"


def record_damaged_attempts(plan: Plan) -> bool:
    """Record again the attempts whose documents were damaged, so that a later run can discard what they left. Returns whether any were."""
    folder, damages = plan.checkpoint.layout.imports(plan.address), plan.inspected.damages
    runs = [key.removeprefix(folder).removesuffix(".json") for key in damages.keys if damages.mends and key.startswith(folder)]
    for run in runs:
        plan.checkpoint.record_attempt(plan.address, ImportAttempt(run=run, collection=collection_of(plan, run), rows=0, covers=""))
    return bool(runs)


def _is_abandoned(attempt: ImportAttempt, silent: float) -> bool:
    if attempt.process is not None and is_this_process(attempt.process):
        return attempt.run not in _active
    return silent >= SILENT_SECONDS or (attempt.process is not None and has_ended(attempt.process))


def discard_attempt(plan: Plan, attempt: ImportAttempt) -> None:
    """Discard an unfinished attempt for the plan's collection, after its import jobs.

    The jobs get 60 seconds to end: Milvus 2.3.5 keeps a job whose collection is gone for minutes, and starts no other meanwhile.
    """
    with closing(plan.inspected.open_target()) as target, suppress(KitestringError):
        loader, deadline = target.bulk_loader(), time.monotonic() + ENDING_SECONDS
        while loader and any(loader.look(job).state == "running" for job in attempt.jobs) and time.monotonic() < deadline:
            time.sleep(1)
    discard(plan.job, plan.checkpoint, plan.address, attempt)


def discard(job: Job, checkpoint: Checkpoint, address: str, attempt: ImportAttempt) -> None:
    """Drop the collection of an unfinished attempt, and remove its staged files and its document."""
    if attempt.state == "imported":  # "imported" without its collection would mean that it was renamed to the real name
        checkpoint.record_attempt(address, attempt.model_copy(update={"state": "begun"}))
    with closing(open_target(job)) as target:
        target.drop(attempt.collection)
        _forget(target, checkpoint, address, attempt)


def _forget(target: Target, checkpoint: Checkpoint, address: str, attempt: ImportAttempt) -> None:
    if loader := target.bulk_loader():
        loader.clear(staged_at(address, attempt))
    checkpoint.forget_attempt(address, attempt.run)


def staged_at(address: str, attempt: ImportAttempt) -> str:
    """The prefix of an attempt's files in the staging store."""
    return f"{address}/{attempt.run}"
