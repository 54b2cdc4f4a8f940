"""A launch that begins before the run: its agent imports torch while Prefect is imported and its server starts.

Both take some five seconds, on different cores. So the command starts an agent first and looks at the job then; the run's
first launch takes that agent over and gives it the assignment that it waits for. It stands behind a guard as every
launch does, so nothing of it outlives the command, and an unused one ends with it.

Only where the ranks are sure to be wanted, and at once: a corpus that has been run before may have nothing to encode, and a
run that waits for its turn, or for a device, should not hold memory meanwhile.
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
    """A launch whose agent waits for its assignment in a folder of its own."""

    def __init__(self, launch: Launch, kind: str, folder: Path) -> None:
        self._made_for = (launch, kind)
        self._assignment, self._log = folder / "assignment.json", folder / "ranks.log"
        self.torchrun = Torchrun(launch, kind, self._assignment, self._log)

    def fits(self, launch: Launch, kind: str) -> bool:
        return self._made_for == (launch, kind) and self.torchrun.is_alive

    def give(self, assignment: Path, log: Path) -> Torchrun:
        """Have it work on an assignment; its output, earlier lines included, is in `log`."""
        log.symlink_to(self._log)
        begun = self._assignment.with_suffix(".new")
        shutil.copyfile(assignment, begun)
        begun.rename(self._assignment)  # it is there as a whole or not at all
        return self.torchrun


_waiting: list[PrestartedLaunch] = []  # one at most


@contextmanager
def early_launch(job: Job) -> Iterator[None]:
    """Within, a launch for this job begins at once, if it is sure to be wanted; what `start_torchrun` has not taken is ended on leaving."""
    launch = launch_for(job)
    if not _sure_to_be_wanted(job, launch):
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
    """Start a launch, or take over the one that was started early for such ranks."""
    early = _waiting.pop() if _waiting else None
    if early is not None and early.fits(launch, kind):
        return early.give(assignment, log)
    return Torchrun(launch, kind, assignment, log, devices=devices)


def _sure_to_be_wanted(job: Job, launch: Launch) -> bool:
    """Whether nothing of this corpus is encoded yet, this machine will encode it, and no other run may hold the devices."""
    if job.compute.engine.kind != "local" or ENCODERS[job.encoder.kind].encoders != TORCHRUN:
        return False
    if launch.device == "cuda" or job.compute.exclusive is True or job.compute.limit is not None:
        return False
    with suppress(KitestringError):  # the run will meet it too, and report it
        return next(iter(open_store(job.checkpoint).list(encoder_pins(job.corpus))), None) is None
    return False
