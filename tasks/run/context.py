"""One run of a job: what its stages share, opened once and closed whatever happens."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
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
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.job.job import Job
from tasks.domain.progress.snapshot import Snapshot
from tasks.run.artifacts import Artifacts, RankLines, show_stop
from tasks.run.concurrency_limit import turn
from tasks.run.encoding_notes import note_event
from tasks.run.events import Events
from tasks.run.observers.live_progress import told_in_checkpoint
from tasks.run.observers.observability import check_observers, observed
from tasks.run.preflight import Inspected, check_cache, inspect_job, reach_target
from tasks.run.progress import Journal

COMMAND_BEGAN: ContextVar[dt.datetime | None] = ContextVar(
    "command began", default=None
)  # where a command runs the flow: its encoder starts before the flow


class Run:
    """The opened parts of a run. A plain class, so that Prefect hands it to tasks as it is. `dry`: nothing is written but what scratch takes."""

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
        tell = partial(note_event, journal, inspected.damages)
        self.engine = open_engine(spec, scratch=scratch, tell=tell, store=inspected.store, model=inspected.model)
        self.foreseen: Future[Estimate | None] | None = None  # what it was thought to take
        journal.encoding = self.engine.progress
        self.devices = DeviceMeter()
        journal.listeners += [RankLines(), self.devices, self._leave_when_suspended]
        journal.tell = Events(self.job.corpus, self.id)

    def expect(self, shards: int, rows: int | None) -> None:
        """What this run has to see to, and the source rows of it; None: nobody knows."""
        rows = None if self.job.source.chunking else rows  # encoders are given chunks, and nobody knows how many there will be
        self.journal.expect(shards, rows)
        self.engine.expect(rows)

    def _leave_when_suspended(self, _now: Snapshot) -> None:
        """Prefect ends a suspended flow at its next task; without ranks that is now, not when a shard is done."""
        context = FlowRunContext.get()
        if context is not None and context.flow_run_suspension_request.is_requested():
            self.engine.close()


@contextmanager
def open_run(job: Job, *, dry: bool = False) -> Iterator[Run]:
    """Look at everything, then open what the stages need; on leaving every process of the run is gone.

    Args:
        job: the job to run.
        dry: the parts that are encoded go to scratch, and the checkpoint is not written to see whether it can be.

    Raises:
        BadInput: something that the job names is not there or does not fit; nothing was written.
    """
    return_freed_memory()
    with Events(job.corpus).of_failure(), scratch_folder() as scratch:
        inspected = inspect_job(job)
        check_cache(job)
        check_observers(job)
        journal = Journal(listeners=[Artifacts(job.corpus)])
        with _telling_of_a_stop(job.corpus, journal), journal.ticking(), turn(job.compute.limit, journal, slots=job.compute.engine.slots):
            reach_target(inspected)
            name = new_run_id()
            if not dry:
                probe_store(inspected.store)
                inspected.damages.mend(name, lambda _key, line: journal.note_repair(line))
            run = Run(name, inspected, scratch, journal, dry=dry)
            try:
                if dry:
                    yield run
                    return
                journal.tell("run.started", {"encoder": inspected.model.weights, "target": job.target.collection})
                with told_in_checkpoint(inspected.store, job.corpus, name, run.started_at, journal), observed(job, name, journal):
                    yield run
            finally:
                run.engine.close()


@contextmanager
def _telling_of_a_stop(corpus: str, journal: Journal) -> Iterator[None]:
    """Cancel, SIGTERM and Ctrl-C are no errors: the page says what was saved."""
    try:
        yield
    except (ExternalSignal, KeyboardInterrupt):
        show_stop(corpus, journal.snapshot(ended=True))
        raise


def new_run_id(now: dt.datetime | None = None) -> str:
    """Sorts by time, to the millisecond: small runs follow each other within a second; unique without asking anybody."""
    now = now or dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
