"""Renders the page of `kitestring tune`: a chart for each setting, speed and memory by batch size, and the scaling of ranks."""

from __future__ import annotations

from tasks.adapters.report.axes import Tone
from tasks.adapters.report.charts import Bar, bar_chart
from tasks.adapters.report.panels import Panel
from tasks.adapters.report.templates import render
from tasks.adapters.report.tuning.line_chart import Series, line_chart
from tasks.domain.encoding.tune.scaling_laws import ScalingResult, amdahl, gustafson
from tasks.domain.encoding.tune.trial_text import (
    AXES,
    SCALING_HEADS,
    TRIAL_HEADS,
    format_bytes_short,
    format_settings,
    scaling_cells,
    trial_cells,
    tried,
)
from tasks.domain.encoding.tune.trials import KEPT_AXES, Axis, Trial, TuneResult


def render_tune(result: TuneResult, *, settings: str) -> str:
    """The page of a sweep, without scripts or network access.

    Args:
        result: the trials.
        settings: the best settings as part of a job file.
    """
    best, start = result.best, result.start
    return render(
        "tune.html",
        corpus=result.corpus,
        machine=result.machine,
        interrupted=result.interrupted,
        headline=_tune_headline(result),
        keys=_tune_keys(result, best, start),
        drawn=[*_batch_panels(result), *(panel for axis in AXES if axis not in {"start", "batch"} for panel in _axis_panel(result, axis))],
        table=Panel(title="", heads=TRIAL_HEADS, rows=trial_cells(result.trials)),
        settings=settings,
        notes=result.notes,
    )


def _tune_headline(result: TuneResult) -> str:
    best, start = result.best, result.start
    if best is None or start is None:
        return "Nothing was measured"
    gain = best.rows_per_second / start.rows_per_second if start.rows_per_second else 1.0
    if gain > 1:
        return f"{gain:.2f} times as fast as the job's own settings"
    compared = any(trial.axis in KEPT_AXES for trial in result.trials)
    return "Nothing is faster than the job's own settings" if compared else "Only the job's own settings were measured"


def _tune_keys(result: TuneResult, best: Trial | None, start: Trial | None) -> list[Panel]:
    keys = [Panel(title="the job's own settings", words=_rate(start), note=format_settings(start.settings))] if start else []
    keys += [Panel(title="the best", words=_rate(best), note=format_settings(best.settings))] if best else []
    if faster := result.best_precision:
        keys.append(
            Panel(title=f"in {faster.settings.precision}", words=_rate(faster), note="another encoder: rows must be embedded again")
        )
    return keys


def _rate(trial: Trial | None) -> str:
    return f"{trial.rows_per_second:,.0f} rows/s" if trial else ""


def batch_trials(result: TuneResult) -> list[Trial]:
    """The trials that differ only in batch size, smallest first, including the one the sweep started from."""
    tried_sizes = [trial for trial in result.trials if trial.axis == "batch"]
    if not tried_sizes:
        return []
    like = tried_sizes[0].settings
    first = result.trials.index(tried_sizes[0])
    same = [
        trial
        for trial in result.trials[:first]
        if trial.settings.with_batch(like.batch or 0) == like and trial.axis in {"start", *KEPT_AXES}
    ]
    return sorted([*same[-1:], *tried_sizes], key=lambda trial: trial.settings.batch or 0)


def _batch_panels(result: TuneResult) -> list[Panel]:
    """Speed and memory by batch size."""
    trials = batch_trials(result)
    measured = [(place, trial) for place, trial in enumerate(trials) if not trial.error]
    if not measured:
        return []
    unit = "tokens" if trials[0].settings.batch_tokens is not None else "rows"
    places = [(float(place), f"{trial.settings.batch:,}") for place, trial in enumerate(trials)]
    ended = next((place for place, trial in enumerate(trials) if trial.memory_ended), None)
    wall = (float(ended), "out of memory") if ended is not None else None
    speed = Series(label="rows/s", points=[(place, trial.rows_per_second) for place, trial in measured])
    memory = Series(label="GiB", points=[(place, trial.memory / 2**30) for place, trial in measured], tone="two")
    limit = f"; {format_bytes_short(result.memory_limit)} are available" if result.memory_limit else ""
    end = "Batches beyond the red line do not fit into memory." if wall else "All these sizes fit into memory."
    axis = f"{unit} in a batch"
    rows = [[f"{trial.settings.batch:,}", _rate(trial), format_bytes_short(trial.memory)] for _, trial in measured]
    heads = (axis, "speed", "memory")
    return [
        Panel(
            title="Speed by batch size",
            note=f"Rows per second of all ranks together. {end}",
            chart=line_chart([speed], key="batch-speed", title="Speed by batch size", places=places, axis=axis, wall=wall),
            heads=heads,
            rows=rows,
        ),
        Panel(
            title="Memory by batch size",
            note=f"Peak GiB of all ranks together{limit}. {end}",
            chart=line_chart([memory], key="batch-memory", title="Memory by batch size", places=places, axis=axis, wall=wall),
            heads=heads,
            rows=rows,
        ),
    ]


def _axis_panel(result: TuneResult, axis: Axis) -> list[Panel]:
    """Bars for one setting: the best trial before it, and the values tried."""
    own = [trial for trial in result.trials if trial.axis == axis and not trial.error]
    if not own:
        return []
    earlier = _before(result, own[0]) if axis in KEPT_AXES else []
    shown = [*earlier, *own]
    top = max(trial.rows_per_second for trial in shown)
    bars = [
        Bar(
            label=tried(axis, trial.settings),
            value=trial.rows_per_second,
            shown=_rate(trial),
            tone="two" if trial.rows_per_second == top else "one",
        )
        for trial in shown
    ]
    title = AXES[axis].capitalize()
    note = {"shuffling": "Rows of the sample in their own order, and shuffled.", "precision": "Another precision is another encoder."}
    described = "; ".join(f"{bar.label}: {bar.shown}" for bar in bars)
    chart = bar_chart(bars, key=f"axis-{axis}", title=title, description=described)
    return [
        Panel(title=title, note=note.get(axis, ""), chart=chart, heads=(AXES[axis], "speed"), rows=[(bar.label, bar.shown) for bar in bars])
    ]


def _before(result: TuneResult, trial: Trial) -> list[Trial]:
    """The best of all trials before this one."""
    earlier = result.model_copy(update={"trials": result.trials[: result.trials.index(trial)]})
    return [earlier.best] if earlier.best else []


def render_scaling(result: ScalingResult) -> str:
    """The page of `--scaling`: the speed-up for fixed work and for work that grows with the ranks, with the fitted laws."""
    return render(
        "tune.html",
        corpus=result.corpus,
        machine=result.machine,
        interrupted=result.interrupted,
        headline=_scaling_headline(result),
        keys=_scaling_keys(result),
        drawn=_scaling_panels(result),
        table=Panel(title="", heads=SCALING_HEADS, rows=scaling_cells(result)),
        settings="",
        notes=result.notes,
    )


def _scaling_headline(result: ScalingResult) -> str:
    if len(result.points) < 2:
        return "Only one rank was measured" if result.points else "Nothing was measured"
    most, speed = result.speed_ups[-1]
    return f"{most} ranks are {speed:.2f} times as fast as one"


def _scaling_keys(result: ScalingResult) -> list[Panel]:
    laws = (
        ("Amdahl", result.amdahl, "of the fixed work is serial"),
        ("Gustafson", result.gustafson, "of the growing work is serial"),
    )
    return [Panel(title=f"{name}'s law", words=f"{100 * share:.1f}%", note=note) for name, share, note in laws if share is not None]


def _scaling_panels(result: ScalingResult) -> list[Panel]:
    same = (result.speed_ups, result.amdahl, amdahl, "The same rows", "Amdahl", "same")
    grown = (result.grown_speed_ups, result.gustafson, gustafson, "Rows that grow with the ranks", "Gustafson", "grown")
    drawn = []
    for measured, share, law, title, name, key in (same, grown):
        if share is None:
            continue
        ranks = [number for number, _ in measured]
        lines = [
            Series(label="ideal", points=[(number, float(number)) for number in ranks], tone="calm", dashed=True),
            Series(label=f"{name}'s law", points=[(number, law(share, number)) for number in ranks], tone="two", dashed=True),
            Series(label="measured", points=measured),
        ]
        chart = line_chart(
            lines, key=f"scaling-{key}", title=title, places=[(float(number), str(number)) for number in ranks], axis="ranks"
        )
        rows = [[str(number), f"{speed:.2f}", f"{law(share, number):.2f}"] for number, speed in measured]
        legend: list[tuple[Tone, str]] = [("one", "measured"), ("two", f"{name}'s law, a share of {100 * share:.1f}%"), ("calm", "ideal")]
        drawn.append(
            Panel(title=title, note="Speed-up over one rank.", chart=chart, legend=legend, heads=("ranks", "measured", name), rows=rows)
        )
    return drawn
