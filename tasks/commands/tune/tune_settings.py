"""The winner's settings: as a job file has them, and as they are kept with the checkpoint."""

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
    """What a job's `compute` has to say for a run like a trial."""
    return trial.settings.model_dump(include=COMPUTE_SETTINGS, exclude_none=True)


def as_yaml(result: TuneResult) -> str:
    """The winner as a piece of a job file. A faster precision is a comment: it would be another encoder."""
    best, faster = result.best, result.best_precision
    if best is None:
        return ""
    lines = yaml.safe_dump({"compute": compute_settings(best)}, sort_keys=False)
    if faster is None:
        return lines
    gain, near = faster.rows_per_second / best.rows_per_second, faster.lowest_cosine
    cosine = f", lowest cosine to float32 {near:.5f}" if near is not None else ""
    told = f"# {gain:.2f} times as fast{cosine}. It is another encoder: all rows are embedded again, into a collection of their own.\n"
    return f"{lines}{told}# encoder:\n#   precision: {faster.settings.precision}\n"


def keep_settings(bench: TuneBench, best: Trial) -> tuple[str, ...]:
    """Keep a winner with the checkpoint, for the settings that the job leaves to auto.

    Returns:
        The names of those that the job sets otherwise, so that keeping them has no effect.
    """
    job = bench.job
    key = kept_settings_key(job.corpus, bench.inspected.declared, machine_digest(job.compute, bench.launch))
    write_document(bench.inspected.store, key, kept_settings(job.compute, best))
    return tuple(name for name, value in compute_settings(best).items() if getattr(job.compute, name) not in ("auto", value))


def kept_settings(compute: Compute, best: Trial) -> KeptSettings:
    """What is stored of a winner. Its backend and its batches count only where the job leaves them open."""
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
