"""Charts as inline SVG: bars, curves over time, histograms, points. Each has a title and a description for who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.adapters.report.svg import (
    GROUPS,
    INK,
    LARGE,
    SMALL,
    TONES,
    WIDTH,
    Tone,
    axes_on,
    canvas_of,
    clock_on,
    grid_on,
    shorten,
    svg_of,
    units_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Sequence[tuple[float, float]]
_LINE = 57  # characters that a label and its value have together


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar with what is written above it."""

    label: str
    value: float
    shown: str  # the value as written
    tone: Tone = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A quantity over seconds. `bands`, if any, are what it is the sum of: each a value for each of the points."""

    label: str
    points: Sequence[tuple[float, float]]
    tone: Tone = "one"
    bands: Sequence[Sequence[float]] = ()


def bar_chart(bars: Sequence[Bar], *, key: str, title: str, description: str) -> str:
    """Horizontal bars, each under its label and value. `key` makes the ids unique in the page."""
    step, thick = 40.0, 9.0
    canvas = canvas_of(height=step * len(bars) + 4)
    axes = axes_on(canvas, (0, 0, WIDTH, step * len(bars) + 4), axis_off=True)
    most = max((bar.value for bar in bars), default=0) or 1
    left, right = thick / 2, WIDTH - thick / 2
    for place, bar in enumerate(reversed(bars)):
        y = place * step + thick / 2 + 5
        axes.plot([left, right], [y, y], color=INK, alpha=0.08, linewidth=thick, solid_capstyle="round", clip_on=False)
        if bar.value > 0:
            end = left + (right - left) * bar.value / most
            axes.plot([left, end], [y, y], color=TONES[bar.tone], linewidth=thick, solid_capstyle="round", clip_on=False)
        axes.text(0, y + 12, canvas.token(shorten(bar.label, max(_LINE - len(bar.shown), 12))), color=INK, fontsize=LARGE)
        axes.text(WIDTH, y + 12, canvas.token(bar.shown), color=INK, fontsize=LARGE, ha="right", fontweight="bold")
    axes.set(xlim=(0, WIDTH), ylim=(0, step * len(bars) + 4))
    return svg_of(canvas, key, title, description)


def curve_chart(curves: Sequence[Curve], *, key: str, title: str, description: str) -> str:
    """Panels one above the other over one clock."""
    panel, foot = 128.0, 26.0
    canvas = canvas_of(height=panel * len(curves) + foot)
    for place, curve in enumerate(reversed(curves)):
        axes = axes_on(canvas, (48, foot + panel * place, WIDTH - 56, panel - 34))
        seconds, values = zip(*curve.points, strict=True)
        if curve.bands:
            _stack(axes, seconds, curve.bands)
        else:
            axes.fill([seconds[0], *seconds, seconds[-1]], [0, *values, 0], color=TONES[curve.tone], alpha=0.14, linewidth=0, clip_on=False)
        axes.plot(seconds, values, color=TONES[curve.tone], linewidth=1.8, solid_joinstyle="round", clip_on=False)
        axes.set(xlim=(0, seconds[-1]), ylim=(0, max(values) * 1.08 or 1))
        axes.text(-48, panel - 34 + 11, canvas.token(curve.label), color=INK, fontsize=LARGE, transform=units_of(axes))
        grid_on(axes, "y")
        clock_on(axes, shown=place == 0)
    return svg_of(canvas, key, title, description)


def _stack(axes: Axes, seconds: Sequence[float], bands: Sequence[Sequence[float]]) -> None:
    """Bands one on the other, each with the colour of its place."""
    floor = np.zeros(len(seconds))
    for tone, band in zip(GROUPS, bands, strict=False):
        top = floor + np.asarray(band)
        axes.fill([*seconds, *seconds[::-1]], [*top, *floor[::-1]], color=TONES[tone], alpha=0.45, linewidth=0, clip_on=False)
        floor = top


def column_chart(columns: Sequence[tuple[str, int]], *, key: str, title: str, description: str, axis: str) -> str:
    """A histogram of ready bins, with the bins' labels thinned to those that fit."""
    canvas = canvas_of(height=232)
    axes = axes_on(canvas, (48, 46, WIDTH - 56, 176))
    counts = [count for _, count in columns]
    axes.bar(range(len(columns)), counts, width=0.84, color=TONES["two"], linewidth=0, clip_on=False)
    spare = max(8 - len(columns), 0) / 2  # a lone column stays a column
    axes.set(xlim=(-0.6 - spare, len(columns) - 0.4 + spare), ylim=(0, max(counts) * 1.05 or 1))
    grid_on(axes, "y")
    every = -(-len(columns) // 12)
    kept = range((len(columns) - 1) % every, len(columns), every)  # counted from the last: the model's limit is worth reading
    axes.set_xticks(list(kept), [columns[place][0] for place in kept])
    axes.text((WIDTH - 56) / 2, -42, canvas.token(axis), color=INK, fontsize=SMALL, ha="center", alpha=0.75, transform=units_of(axes))
    return svg_of(canvas, key, title, description)


def point_chart(groups: Sequence[Points], *, key: str, title: str, description: str, along: tuple[str, str]) -> str:
    """Points in the plane, both directions in one scale, each group with the colour of its place.

    Args:
        groups: of points; at most as many as there are colours.
        key: makes the ids unique in the page.
        title: for who cannot see it.
        description: likewise.
        along: what is written at the horizontal and at the vertical direction.
    """
    from matplotlib.patches import PathPatch  # noqa: PLC0415 - a second's import that only the report needs
    from matplotlib.path import Path  # noqa: PLC0415 - as above

    high, edge = 330.0, 24.0
    canvas = canvas_of(height=high)
    axes = axes_on(canvas, (0, 0, WIDTH, high), axis_off=True)
    axes.set(xlim=(0, WIDTH), ylim=(0, high))
    for tone, points in zip(GROUPS, _fitted(groups, (edge, edge, WIDTH - 8, high - 8)), strict=False):
        ends = np.repeat(points, 2, axis=0)  # a line of no length with round ends is a dot: one path for the whole group
        dots = Path(ends, [Path.MOVETO, Path.LINETO] * len(points))
        dots.should_simplify = False
        axes.add_patch(
            PathPatch(dots, fill=False, color=TONES[tone], linewidth=4.6, capstyle="round", alpha=0.7, snap=False, clip_on=False)
        )
    axes.plot([edge - 8, edge - 8, WIDTH], [high, edge - 8, edge - 8], color=INK, alpha=0.2, linewidth=0.8, clip_on=False)
    axes.text(WIDTH, 2, canvas.token(along[0]), color=INK, fontsize=SMALL, ha="right", alpha=0.75)
    # By its anchor, so that the browser, which alone knows the text's length, aligns it.
    axes.text(11, high, canvas.token(along[1]), color=INK, fontsize=SMALL, ha="right", rotation=90, rotation_mode="anchor", alpha=0.75)
    return svg_of(canvas, key, title, description)


def _fitted(groups: Sequence[Points], box: tuple[float, float, float, float]) -> list[np.ndarray]:
    """The points moved and scaled into a box: left, bottom, right, top."""
    arrays = [np.asarray(points, dtype=float).reshape(-1, 2) for points in groups]
    everything = np.concatenate(arrays)
    low, size = everything.min(axis=0), np.ptp(everything, axis=0)
    room = np.array([box[2] - box[0], box[3] - box[1]])
    scale = min((room[i] / size[i] for i in (0, 1) if size[i] > 0), default=1.0)
    start = np.array(box[:2]) + (room - size * scale) / 2
    return [start + (points - low) * scale for points in arrays]
