"""Trials in words: a line while they are made, and their cells in a table."""

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
    """The setting that a trial is about."""
    of: dict[Axis, str] = {
        "start": format_settings(settings),
        "backend": settings.backend,
        "ranks": f"{settings.processes} x {settings.threads}",
        "batch": format_batch(settings),
        "workers": str(settings.num_workers),
        "pinned": "on" if settings.pin_memory else "off",
        "precision": settings.precision,
        "shuffling": "on" if settings.shuffled else "off",
    }
    return of[axis]


def format_settings(settings: TrialSettings) -> str:
    """All of them, short."""
    ranks = f"{settings.processes} x {settings.threads}"
    workers = [] if settings.num_workers is None else [f"{settings.num_workers} workers"]
    return ", ".join([settings.backend, ranks, format_batch(settings), *workers, settings.precision])


def format_batch(settings: TrialSettings) -> str:
    """The size of a batch with its unit."""
    if settings.batch is None:
        return "batches as they come"
    return f"{settings.batch:,} {'tokens' if settings.batch_tokens is not None else 'rows'}"


def format_bytes_short(size: int) -> str:
    """In GiB, or MiB below one."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:,.0f} MiB"


def trial_line(trial: Trial) -> str:
    """One line for the terminal."""
    about = f"{AXES[trial.axis]}: {tried(trial.axis, trial.settings)}"
    return f"{about}: {trial.error}" if trial.error else f"{about}: {trial_speed(trial)}"


def trial_speed(trial: Trial) -> str:
    """Its rates and its memory."""
    tokens = [f"{trial.tokens_per_second:,.0f} tokens/s"] if trial.tokens_per_second else []
    full = [f"{trial.halved} batches did not fit into memory"] if trial.halved else []
    return ", ".join([f"{trial.rows_per_second:,.0f} rows/s", *tokens, format_bytes_short(trial.memory), *full])


def point_line(point: ScalePoint) -> str:
    """One number of ranks, for the terminal."""
    grown = f", {point.grown_rows:,} rows in {point.grown_seconds:.1f} s" if point.grown_seconds else ""
    ranks = "1 rank" if point.ranks == 1 else f"{point.ranks} ranks"
    return f"{ranks} of {point.threads} threads: {point.rows:,} rows in {point.seconds:.1f} s{grown}, {format_bytes_short(point.memory)}"


def trial_cells(trials: Sequence[Trial]) -> list[list[str]]:
    """A row for each trial, for a table."""
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
    """A row for each number of ranks, for a table."""
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
