"""What `kitestring tune --apply` kept for such a machine, in the place of a job's `auto`."""

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
    """A place whose job has what was kept for it, and the backend and batches that were; None: nothing was kept."""
    job = place.job
    key = kept_settings_key(job.corpus, place.spec.declared, machine_digest(job.compute, launch_for(job)))
    kept = None
    with suppress(Newer):  # what a newer version keeps, it alone uses
        kept = read_document(place.store, key, KeptSettings, damages=place.damages)
    if kept is None:
        return place, None
    settled = job.model_copy(update={"compute": fill_auto(job.compute, kept)})
    return replace(place, spec=place.spec.model_copy(update={"job": settled})), kept.tuning


def fill_auto(compute: Compute, kept: KeptSettings) -> Compute:
    """A job's settings, with kept ones for `auto`. Ranks and threads belong together: a job that sets one of them sets both."""
    values = kept.model_dump(include={"batch_rows", "num_workers", "pin_memory"}, exclude_none=True)
    if compute.processes == compute.threads == "auto":
        values |= {"processes": kept.processes, "threads": kept.threads}
    return compute.model_copy(update={name: value for name, value in values.items() if getattr(compute, name) == "auto"})
