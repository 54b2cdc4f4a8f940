"""Trials as text: a line for each in the terminal, and the cells of a table."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.domain.encoding.tune.scaling_laws import ScalePoint, ScalingResult
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings

TRIAL_HEADS = ("trial", "rows/s", "tokens/s", "memory", "lowest cosine", "remark")
SCALING_HEADS = ("ranks", "same rows", "seconds", "speed-up", "grown rows", "grown seconds", "speed-up of grown work")

AXES: dict[Axis, str] = {
    "start": "as the job says",
    "backend": "backend",
    "ranks": "ranks x threads",
    "batch": "batch size",
    "workers": "decoding workers",
    "pinned": "pinned memory",
    "precision": "precision",
    "shuffling": "shuffling",
}


def tried(axis: Axis, settings: TrialSettings) -> str:
    """Return the value of the setting that a trial varies."""
    values: dict[Axis, str] = {
        "start": format_settings(settings),
        "backend": settings.backend,
        "ranks": f"{settings.processes} x {settings.threads}",
        "batch": format_batch(settings),
        "workers": str(settings.num_workers),
        "pinned": "on" if settings.pin_memory else "off",
        "precision": settings.precision,
        "shuffling": "on" if settings.shuffled else "off",
    }
    return values[axis]


def format_settings(settings: TrialSettings) -> str:
    """Format all settings in one short line."""
    ranks = f"{settings.processes} x {settings.threads}"
    workers = [] if settings.num_workers is None else [f"{settings.num_workers} workers"]
    return ", ".join([settings.backend, ranks, format_batch(settings), *workers, settings.precision])


def format_batch(settings: TrialSettings) -> str:
    """Format the batch size with its unit."""
    if settings.batch is None:
        return "batches as they come"
    return f"{settings.batch:,} {'tokens' if settings.batch_tokens is not None else 'rows'}"


def format_bytes_short(size: int) -> str:
    """Format bytes in GiB, or in MiB below one GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:,.0f} MiB"


def trial_line(trial: Trial) -> str:
    """Format a trial as one line for the terminal."""
    about = f"{AXES[trial.axis]}: {tried(trial.axis, trial.settings)}"
    return f"{about}: {trial.error}" if trial.error else f"{about}: {trial_speed(trial)}"


def trial_speed(trial: Trial) -> str:
    """Format the rates and the memory of a trial."""
    tokens = [f"{trial.tokens_per_second:,.0f} tokens/s"] if trial.tokens_per_second else []
    halved = [f"{trial.halved} batches did not fit into memory"] if trial.halved else []
    return ", ".join([f"{trial.rows_per_second:,.0f} rows/s", *tokens, format_bytes_short(trial.memory), *halved])


def point_line(point: ScalePoint) -> str:
    """Format the measurement of one number of ranks as a line for the terminal."""
    grown = f", {point.grown_rows:,} rows in {point.grown_seconds:.1f} s" if point.grown_seconds else ""
    ranks = "1 rank" if point.ranks == 1 else f"{point.ranks} ranks"
    return f"{ranks} of {point.threads} threads: {point.rows:,} rows in {point.seconds:.1f} s{grown}, {format_bytes_short(point.memory)}"


def trial_cells(trials: Sequence[Trial]) -> list[list[str]]:
    """Return a table row for each trial."""
    return [
        [
            f"{AXES[trial.axis]}: {tried(trial.axis, trial.settings)}",
            f"{trial.rows_per_second:,.0f}" if trial.rows_per_second else "",
            f"{trial.tokens_per_second:,.0f}" if trial.tokens_per_second else "",
            format_bytes_short(trial.memory) if trial.memory else "",
            f"{trial.lowest_cosine:.5f}" if trial.lowest_cosine is not None else "",
            trial.error or (f"{trial.halved} batches did not fit into memory" if trial.halved else ""),
        ]
        for trial in trials
    ]


def scaling_cells(result: ScalingResult) -> list[list[str]]:
    """Return a table row for each number of ranks."""
    speeds, grown = dict(result.speed_ups), dict(result.grown_speed_ups)
    return [
        [
            str(point.ranks),
            f"{point.rows:,}",
            f"{point.seconds:.2f}",
            f"{speeds[point.ranks]:.2f}",
            f"{point.grown_rows:,}",
            f"{point.grown_seconds:.2f}",
            f"{grown[point.ranks]:.2f}" if point.ranks in grown else "",
        ]
        for point in result.points
    ]
