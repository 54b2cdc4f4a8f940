"""One run of a job: what its stages share, opened once and closed whatever happens."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from prefect.context import FlowRunContext

from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.object_store.registry import probe
from tasks.adapters.processes.coordinator import Ranks
from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch, device_names, machine, plan_launch
from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.sources.registry import rows_at_least
from tasks.domain.digest import digest
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import Tuning, tuning_key
from tasks.domain.errors import Newer
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.job.job import Job
from tasks.run.artifacts import Artifacts, RankLines
from tasks.run.concurrency_limit import turn
from tasks.run.events import Events
from tasks.run.preflight import Inspected, inspect_job, reach_target
from tasks.run.progress import Journal, Snapshot

FEW_ROWS = 1_000  # with fewer nothing is measured, whatever a row takes


class Run:
    """The opened parts of a run. A plain class, so that Prefect hands it to tasks as it is. `parts`: the store that ranks write to."""

    def __init__(self, run: str, inspected: Inspected, scratch: Path, journal: Journal, *, parts: str) -> None:
        self.id = run
        self.started_at = utc_now()
        self.inspected = inspected
        self.job: Job = inspected.job
        self.scratch = scratch
        self.journal = journal
        self.launch = plan_launch(self.job.compute)
        self.ranks = Ranks(
            _assign(inspected, self.launch, scratch, parts),
            self.launch,
            scratch,
            stall_seconds=self.job.failures.stall_seconds,
            startup_seconds=self.job.failures.startup_seconds,
            devices=_devices(self.job, self.launch),
        )
        self.foreseen: Future[Estimate | None] | None = None  # what it was thought to take
        journal.pace = self.ranks.pace
        journal.waits_for = lambda: self.ranks.waits_for
        journal.under_way = self.ranks.under_way
        journal.listeners += [RankLines(self.ranks), self._leave_when_suspended]
        journal.tell = Events(self.job.corpus, self.id)

    def _leave_when_suspended(self, _now: Snapshot) -> None:
        """Prefect ends a suspended flow at its next task; without ranks that is now, not when a shard is done."""
        context = FlowRunContext.get()
        if context is not None and context.flow_run_suspension_request.is_requested():
            self.ranks.close()


@contextmanager
def open_run(job: Job, *, dry: bool = False) -> Iterator[Run]:
    """Look at everything, then open what the stages need; on leaving every process of the run is gone.

    Args:
        job: the job to run.
        dry: the parts that ranks write go to scratch, and the checkpoint is not written to see whether it can be.

    Raises:
        BadInput: something that the job names is not there or does not fit; nothing was written.
    """
    with Events(job.corpus).of_failure(), scratch_folder() as scratch:
        inspected = inspect_job(job)
        journal = Journal(listeners=[Artifacts(job.corpus)])
        with journal.ticking(), turn(job.compute.limit, journal):
            reach_target(inspected)
            name = new_run_id()
            if not dry:
                probe(inspected.store)
                inspected.damages.mend(name, journal.note_repair)
            run = Run(name, inspected, scratch, journal, parts=str(scratch / "parts") if dry else job.checkpoint)
            try:
                if not dry:
                    journal.tell("run.started", {"encoder": inspected.model.weights, "target": job.target.collection})
                yield run
            finally:
                run.ranks.close()


def _devices(job: Job, launch: Launch) -> Devices:
    exclusive = launch.device == "cuda" if job.compute.exclusive == "auto" else job.compute.exclusive
    return Devices(device_names(launch) if exclusive else (), corpus=job.corpus)


def _assign(inspected: Inspected, launch: Launch, scratch: Path, parts: str) -> Assignment:
    job, pinned = inspected.job, inspected.pinned()
    key = tuning_key(job.corpus, inspected.declared, machine_digest(job, launch))
    tuning, key, rows = *_kept(inspected, key), rows_at_least(inspected.source)
    settled = pinned is not None or job.encoder.precision != "auto"
    return Assignment(
        encoder=job.encoder,
        model_path=inspected.model.path,
        modality=job.source.modality,
        precision=pinned.identity.precision if pinned else job.encoder.precision,
        sample=() if settled and (tuning or rows < FEW_ROWS) else tuple(inspected.sample(scratch)),
        tuning=tuning,
        tuning_key=key,
        rows=rows,
        compute=job.compute,
        store=parts,
        fields=inspected.fields,
        store_text=job.target.store_text and job.source.modality == "text",
        socket=str(scratch / "ranks.sock"),
        startup_seconds=job.failures.startup_seconds,
    )


def machine_digest(job: Job, launch: Launch) -> str:
    """Of the hardware, the libraries and the settings that an encoder's speed depends on."""
    settings = job.compute.model_dump(include={"backend", "batch_tokens", "batch_rows"})
    return digest({"machine": machine(launch), "settings": settings})


def _kept(inspected: Inspected, key: str) -> tuple[Tuning | None, str]:
    """What an earlier run measured, and where what this one measures may be kept: not over what a newer version has kept there."""
    try:
        return read_document(inspected.store, key, Tuning, damages=inspected.damages), key
    except Newer:
        return None, ""


def utc_now() -> str:
    """ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def new_run_id(now: dt.datetime | None = None) -> str:
    """Sorts by time, to the millisecond: small runs follow each other within a second; unique without asking anybody."""
    now = now or dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
