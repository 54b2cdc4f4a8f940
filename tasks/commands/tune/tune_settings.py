"""The best settings of a sweep, as YAML of a job file and as a document of the checkpoint."""

from __future__ import annotations

from typing import Any

import yaml

from tasks.adapters.checkpoint.json_documents import write_document
from tasks.adapters.processes.hardware import machine_digest
from tasks.commands.tune.tune_bench import TuneBench
from tasks.domain.encoding.tune.trials import Trial, TuneResult
from tasks.domain.encoding.tuning import KeptSettings, Tuning, kept_settings_key
from tasks.domain.job.job import Compute

COMPUTE_SETTINGS = {"processes", "threads", "backend", "batch_tokens", "batch_rows", "num_workers", "pin_memory"}


def compute_settings(trial: Trial) -> dict[str, Any]:
    """The `compute` settings of a job for a run like a trial."""
    return trial.settings.model_dump(include=COMPUTE_SETTINGS, exclude_none=True)


def as_yaml(result: TuneResult) -> str:
    """The best settings as YAML of a job file. A faster precision is a comment, since it would be another encoder."""
    best, faster = result.best, result.best_precision
    if best is None:
        return ""
    lines = yaml.safe_dump({"compute": compute_settings(best)}, sort_keys=False)
    if faster is None:
        return lines
    gain, lowest = faster.rows_per_second / best.rows_per_second, faster.lowest_cosine
    cosine = f", lowest cosine to float32 {lowest:.5f}" if lowest is not None else ""
    comment = f"# {gain:.2f} times as fast{cosine}. It is another encoder: all rows are embedded again, into another collection.\n"
    return f"{lines}{comment}# encoder:\n#   precision: {faster.settings.precision}\n"


def keep_settings(bench: TuneBench, best: Trial) -> tuple[str, ...]:
    """Store the best settings in the checkpoint, for the settings that the job leaves to `auto`.

    Returns:
        The names of settings that the job sets to another value, for which storing has no effect.
    """
    job = bench.job
    key = kept_settings_key(job.corpus, bench.inspected.declared, machine_digest(job.compute, bench.launch))
    write_document(bench.inspected.store, key, kept_settings(job.compute, best))
    return tuple(name for name, value in compute_settings(best).items() if getattr(job.compute, name) not in ("auto", value))


def kept_settings(compute: Compute, best: Trial) -> KeptSettings:
    """The document to store. Backend and batch tokens are included only if the job leaves them to `auto`."""
    settings = best.settings
    return KeptSettings(
        processes=settings.processes,
        threads=settings.threads,
        batch_rows=settings.batch_rows,
        num_workers=settings.num_workers,
        pin_memory=settings.pin_memory,
        tuning=Tuning(
            backend=settings.backend if compute.backend == "auto" else compute.backend,
            batch_tokens=settings.batch_tokens if compute.batch_tokens == "auto" else None,
            note=f"settings of `kitestring tune`, which measured {best.rows_per_second:,.0f} rows/s",
        ),
    )
