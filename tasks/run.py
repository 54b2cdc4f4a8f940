"""One run of a job: what its stages share, opened once and closed whatever happens."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.adapters.hardware import plan_launch
from tasks.adapters.ranks import Ranks
from tasks.adapters.scratch import scratch_folder
from tasks.adapters.stores import probe
from tasks.artifacts import Artifacts
from tasks.domain.job import Job
from tasks.domain.messages import Assignment
from tasks.journal import Journal
from tasks.preflight import Inspected, inspect_job, reach_target


class Run:
    """The opened parts of a run. A plain class, so that Prefect hands it to tasks as it is."""

    def __init__(self, inspected: Inspected, scratch: Path) -> None:
        self.id = new_run_id()
        self.started_at = utc_now()
        self.inspected = inspected
        self.job: Job = inspected.job
        self.scratch = scratch
        self.journal = Journal()
        self.launch = plan_launch(self.job.compute)
        self.ranks = Ranks(_assign(inspected, scratch), self.launch, scratch, stall_seconds=self.job.failures.stall_seconds)
        self.journal.pace = self.ranks.pace
        self.journal.listeners.append(Artifacts(self.job.corpus))


@contextmanager
def open_run(job: Job) -> Iterator[Run]:
    """Look at everything, then open what the stages need; on leaving every process of the run is gone.

    Raises:
        BadInput: something that the job names is not there or does not fit; nothing was written.
    """
    inspected = inspect_job(job)
    reach_target(inspected)
    probe(inspected.store)
    with scratch_folder() as scratch:
        run = Run(inspected, scratch)
        try:
            with run.journal.ticking():
                yield run
        finally:
            run.ranks.close()


def _assign(inspected: Inspected, scratch: Path) -> Assignment:
    job, pinned = inspected.job, inspected.pinned()
    return Assignment(
        encoder=job.encoder,
        model_path=inspected.model.path,
        modality=job.source.modality,
        precision=pinned.identity.precision if pinned else job.encoder.precision,
        sample=() if pinned or job.encoder.precision != "auto" else tuple(inspected.sample(scratch)),
        compute=job.compute,
        store=job.checkpoint,
        fields=inspected.fields,
        store_text=job.target.store_text and job.source.modality == "text",
        socket=str(scratch / "ranks.sock"),
    )


def utc_now() -> str:
    """ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def new_run_id() -> str:
    """Sorts by time; unique without asking anybody."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
