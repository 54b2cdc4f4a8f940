"""Starts a launch before the run: its agent imports torch while Prefect is imported and its server starts.

Each takes some five seconds, on different cores. So the command starts an agent first and then reads the job; the run's
first launch takes over that agent and gives it the assignment that it waits for. Like every launch it runs behind a guard,
so no process of it outlives the command, and an unused agent ends with the command.

Used only if the ranks are certainly needed, and at once: a corpus that has been run before may have nothing to encode, and a
run that waits for its turn or for a device should not hold memory meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.device_locks import Devices
from tasks.adapters.processes.hardware import Launch, launch_for
from tasks.adapters.processes.scratch import scratch_folder
from tasks.adapters.processes.torchrun import Torchrun
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS, TORCHRUN
from tasks.domain.job.job import Job
from tasks.domain.shards.layout import encoder_pins


class PrestartedLaunch:
    """A launch whose agent waits for its assignment in a private folder."""

    def __init__(self, launch: Launch, kind: str, folder: Path) -> None:
        self._made_for = (launch, kind)
        self._assignment, self._log = folder / "assignment.json", folder / "ranks.log"
        self.torchrun = Torchrun(launch, kind, self._assignment, self._log)

    def fits(self, launch: Launch, kind: str) -> bool:
        return self._made_for == (launch, kind) and self.torchrun.is_alive

    def give(self, assignment: Path, log: Path) -> Torchrun:
        """Give the agent its assignment; its output, including earlier lines, is in `log`."""
        log.symlink_to(self._log)
        partial_copy = self._assignment.with_suffix(".new")
        shutil.copyfile(assignment, partial_copy)
        partial_copy.rename(self._assignment)  # atomic: the agent never reads a partial file
        return self.torchrun


_waiting: list[PrestartedLaunch] = []  # at most one


@contextmanager
def early_launch(job: Job) -> Iterator[None]:
    """Start a launch for this job at once, if it is certainly needed; on exit, end it unless `start_torchrun` has taken it over."""
    launch = launch_for(job)
    if not _is_certainly_needed(job, launch):
        yield
        return
    with scratch_folder() as folder:
        early = PrestartedLaunch(launch, job.encoder.kind, folder)
        _waiting.append(early)
        try:
            yield
        finally:
            _waiting.clear()
            early.torchrun.end()


def start_torchrun(launch: Launch, kind: str, assignment: Path, log: Path, *, devices: Devices | None = None) -> Torchrun:
    """Start a launch, or take over the prestarted one if it fits."""
    early = _waiting.pop() if _waiting else None
    if early is not None and early.fits(launch, kind):
        return early.give(assignment, log)
    return Torchrun(launch, kind, assignment, log, devices=devices)


def _is_certainly_needed(job: Job, launch: Launch) -> bool:
    """Whether no row of this corpus is encoded yet, this machine will encode it, and no other run may hold the devices."""
    if job.compute.engine.kind != "local" or ENCODERS[job.encoder.kind].encoders != TORCHRUN:
        return False
    if launch.device == "cuda" or job.compute.exclusive is True or job.compute.limit is not None:
        return False
    with suppress(KitestringError):  # the run raises and reports the same error
        return next(iter(open_store(job.checkpoint).list(encoder_pins(job.corpus))), None) is None
    return False
