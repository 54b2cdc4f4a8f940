"""One run of a job: what its stages share, opened once and closed however the run ends."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from prefect.context import FlowRunContext
from prefect.exceptions import ExternalSignal

from tasks.adapters.engines.registry import open_engine
from tasks.adapters.object_store.registry import probe_store
from tasks.adapters.processes.device_meter import DeviceMeter
from tasks.adapters.processes.freed_memory import return_freed_memory
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.errors import KitestringError
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.job.job import Job
from tasks.domain.progress.snapshot import Snapshot
from tasks.run.artifacts import Artifacts, RankLines, show_stop
from tasks.run.concurrency_limit import turn
from tasks.run.encoding_notes import note_event
from tasks.run.events import Events
from tasks.run.observers.live_progress import publishing_progress
from tasks.run.observers.observability import check_observers, observed
from tasks.run.preflight import Inspected, check_cache, inspect_job, reach_target
from tasks.run.progress import Journal

# Set by a command that runs the flow: it starts the encoder before the flow.
COMMAND_BEGAN: ContextVar[dt.datetime | None] = ContextVar("command began", default=None)


class Run:
    """The opened parts of a run. A plain class, so that Prefect passes it to tasks unchanged. `dry`: writes only to scratch."""

    def __init__(self, run: str, inspected: Inspected, scratch: Path, journal: Journal, *, dry: bool = False) -> None:
        self.id = run
        self.started_at = COMMAND_BEGAN.get() or dt.datetime.now(dt.UTC)
        self.inspected = inspected
        self.job: Job = inspected.job
        self.scratch = scratch
        self.journal = journal
        spec = EncodingSpec(
            run=run,
            job=inspected.job,
            fields=inspected.collection_fields,
            weights=inspected.model.weights,
            declared=inspected.declared,
            pinned=inspected.pinned(),
            dry=dry,
        )
        note = partial(note_event, journal, inspected.damages)
        self.engine = open_engine(spec, scratch=scratch, tell=note, store=inspected.store, model=inspected.model)
        self.estimate: Future[Estimate | None] | None = None  # made while the run begins
        self.if_failed: list[Callable[[], None]] = []  # called after a failure, when every process of the run has ended
        journal.encoding = self.engine.progress
        self.devices = DeviceMeter()
        journal.listeners += [RankLines(), self.devices, self._close_when_suspended]
        journal.emit = Events(self.job.corpus, self.id)

    def expect(self, shards: int, rows: int | None) -> None:
        """Set the shards that this run has to process, and their source rows; None: not known."""
        rows = None if self.job.source.chunking else rows  # encoders receive chunks, and their number is not known in advance
        self.journal.expect(shards, rows)
        self.engine.expect(rows)

    def _close_when_suspended(self, _now: Snapshot) -> None:
        """Close the engine of a suspended flow: Prefect ends the flow at its next task, which without ranks is at once."""
        context = FlowRunContext.get()
        if context is not None and context.flow_run_suspension_request.is_requested():
            self.engine.close()


@contextmanager
def open_run(job: Job, *, dry: bool = False) -> Iterator[Run]:
    """Check everything, then open what the stages need. On exit every process of the run has ended.

    Args:
        job: the job to run.
        dry: write encoded parts to scratch, and do not probe the checkpoint with a write.

    Raises:
        BadInput: something that the job names is missing or does not fit; nothing was written.
    """
    return_freed_memory()
    with Events(job.corpus).of_failure(), scratch_folder() as scratch:
        inspected = inspect_job(job)
        check_cache(job)
        check_observers(job)
        journal = Journal(listeners=[Artifacts(job.corpus)])
        with _showing_stop(job.corpus, journal), journal.ticking(), turn(job.compute.limit, journal, slots=job.compute.engine.slots):
            reach_target(inspected)
            name = new_run_id()
            if not dry:
                probe_store(inspected.store)
                inspected.damages.mend(name, lambda _key, line: journal.note_repair(line))
            with _closing(Run(name, inspected, scratch, journal, dry=dry)) as run:
                if dry:
                    yield run
                    return
                journal.emit("run.started", {"encoder": inspected.model.weights, "target": job.target.collection})
                with publishing_progress(inspected.store, job.corpus, name, run.started_at, journal), observed(job, name, journal):
                    yield run


@contextmanager
def _closing(run: Run) -> Iterator[Run]:
    try:
        try:
            yield run
        finally:
            run.engine.close()
    except BaseException:
        for undo in run.if_failed:
            with suppress(KitestringError):  # the run's own failure is the one to report
                undo()
        raise


@contextmanager
def _showing_stop(corpus: str, journal: Journal) -> Iterator[None]:
    """On cancellation, SIGTERM or Ctrl-C, show in an artifact what was saved; these are not errors."""
    try:
        yield
    except (ExternalSignal, KeyboardInterrupt):
        show_stop(corpus, journal.snapshot(ended=True))
        raise


def new_run_id(now: dt.datetime | None = None) -> str:
    """A run id: sorts by time to the millisecond, since small runs follow each other within a second; unique without coordination."""
    now = now or dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
