"""Replaces a job's `auto` by the settings that `kitestring tune --apply` stored for this kind of machine."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tasks.adapters.checkpoint.json_documents import read_document
from tasks.adapters.engines.workplace import Workplace
from tasks.adapters.processes.hardware import launch_for, machine_digest
from tasks.domain.encoding.tuning import KeptSettings, Tuning, kept_settings_key
from tasks.domain.errors import Newer
from tasks.domain.job.job import Compute


def with_kept_settings(place: Workplace) -> tuple[Workplace, Tuning | None]:
    """Returns the workplace with the stored settings in its job, and the stored backend and batch sizes; None: nothing is stored."""
    job = place.job
    key = kept_settings_key(job.corpus, place.spec.declared, machine_digest(job.compute, launch_for(job)))
    stored = None
    with suppress(Newer):  # settings that a newer version stored are ignored
        stored = read_document(place.store, key, KeptSettings, damages=place.damages)
    if stored is None:
        return place, None
    settled = job.model_copy(update={"compute": fill_auto(job.compute, stored)})
    return replace(place, spec=place.spec.model_copy(update={"job": settled})), stored.tuning


def fill_auto(compute: Compute, stored: KeptSettings) -> Compute:
    """A job's settings with stored ones for `auto`. Processes and threads are filled only together, if the job sets neither."""
    values = stored.model_dump(include={"batch_rows", "num_workers", "pin_memory"}, exclude_none=True)
    if compute.processes == compute.threads == "auto":
        values |= {"processes": stored.processes, "threads": stored.threads}
    return compute.model_copy(update={name: value for name, value in values.items() if getattr(compute, name) == "auto"})
