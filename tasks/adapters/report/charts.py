"""Charts laid out in user units: bars, curves over time, histograms, points. `charts.html` writes them as inline SVG.

Each has a title and a description for screen readers, and uses the page's colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.adapters.report.axes import GROUPS, WIDTH, Tone, at, clock, compact, line, shorten, ticks, time_ticks

Points = Sequence[tuple[float, float]]
_LINE = 48  # characters for a label and its value together, on a phone
_LETTER = 6.4  # width of a digit on an axis
_LEFT, _RIGHT = 48.0, WIDTH - 8  # start of the axes, after their labels, and end


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing of width WIDTH; `key` makes its ids unique in the page, and `kind` selects the macro that writes its marks."""

    kind: Literal["bars", "curves", "columns", "points", "spans", "lines"]
    key: str
    title: str
    description: str
    height: float
    marks: Sequence[object]
    axes: Sequence[object] = ()  # labels of the axes; for spans: ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar with its label."""

    label: str
    value: float
    shown: str  # the value as written
    tone: Tone = "one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A quantity over time in seconds. `bands`, if any, are its summands, each with a value for every point."""

    label: str
    points: Points
    tone: Tone = "one"
    bands: Sequence[Sequence[float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label at a position of an axis."""

    place: float
    label: str
    anchor: Literal["middle", "end"] = "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A shape in one colour: a bar or a path."""

    tone: Tone
    label: str = ""
    shown: str = ""
    left: float = 0.0
    top: float = 0.0
    width: float = 0.0
    height: float = 0.0
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackSpan:
    """A period of one state, in seconds."""

    first: float
    stop: float
    tone: Tone
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One laid-out line of a timeline."""

    label: str
    shown: str
    top: float
    height: float
    parts: Sequence[Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Shapes over axes that end at `bottom`."""

    label: str
    bottom: float
    shapes: Sequence[Shape]
    curve: Shape | None
    up: Sequence[Tick]
    across: Sequence[Tick]


def bar_chart(bars: Sequence[Bar], *, key: str, title: str, description: str) -> Chart:
    """Horizontal bars, each under its label and value."""
    step, thick = 40.0, 9.0
    most = max((bar.value for bar in bars), default=0) or 1
    marks = [
        Shape(
            tone=bar.tone,
            label=shorten(bar.label, max(_LINE - len(bar.shown), 12)),
            shown=bar.shown,
            top=step * place + 30,
            width=round(thick + (WIDTH - thick) * bar.value / most, 1) if bar.value > 0 else 0,
            height=thick,
        )
        for place, bar in enumerate(bars)
    ]
    return Chart(kind="bars", key=key, title=title, description=description, height=step * len(bars) + 4, marks=marks)


def span_chart(tracks: Sequence[tuple[str, str, Sequence[TrackSpan]]], *, key: str, title: str, description: str) -> Chart:
    """A timeline: for each track (label, summary, spans) a bar over a common time axis."""
    step, thick, foot = 36.0, 10.0, 24.0
    end = max((span.stop for _, _, spans in tracks for span in spans), default=0.0) or 1.0
    scale = WIDTH / end
    marks = [
        Track(
            label=shorten(label, 20),
            shown=shorten(shown, _LINE - 20),
            top=step * place + 26,
            height=thick,
            parts=[_part(span, scale) for span in spans],
        )
        for place, (label, shown, spans) in enumerate(tracks)
    ]
    places = [(second * scale, clock(second)) for second in time_ticks(end)]
    axes = [Tick(place=round(max(place, _LETTER * len(label) / 2), 1), label=label) for place, label in places if place < WIDTH - 12]
    return Chart(kind="spans", key=key, title=title, description=description, height=step * len(tracks) + foot, marks=marks, axes=axes)


def _part(span: TrackSpan, scale: float) -> Shape:
    """The bar of a span, at least one unit wide so that it is visible."""
    left, width = min(round(span.first * scale, 1), WIDTH - 1), max(1.0, round((span.stop - span.first) * scale, 1))
    return Shape(tone=span.tone, label=span.label, shown=f"{clock(round(span.first))} to {clock(round(span.stop))}", left=left, width=width)


def curve_chart(curves: Sequence[Curve], *, key: str, title: str, description: str) -> Chart:
    """Stacked plots over a common time axis."""
    panel, foot = 128.0, 26.0
    marks = [_plot(curve, bottom=panel * place + panel, last=place + 1 == len(curves)) for place, curve in enumerate(curves)]
    return Chart(kind="curves", key=key, title=title, description=description, height=panel * len(curves) + foot, marks=marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    across: float  # units per second
    up: float  # units per unit of the quantity
    bottom: float

    def points(self, seconds: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
        return [(_LEFT + second * self.across, self.bottom - value * self.up) for second, value in zip(seconds, values, strict=True)]

    def band(self, seconds: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
        """The path of the area between two curves."""
        return line([*self.points(seconds, high), *reversed(self.points(seconds, low))]) + "z"


def _plot(curve: Curve, *, bottom: float, last: bool) -> Plot:
    seconds, values = zip(*curve.points, strict=True)
    top = max(values) * 1.08 or 1.0
    scale = _Scale(across=(_RIGHT - _LEFT) / seconds[-1], up=94 / top, bottom=bottom)
    sums = np.cumsum([np.zeros(len(seconds)), *(curve.bands or [values])], axis=0)
    tones = GROUPS if curve.bands else (curve.tone,)
    across = _along([(second, clock(second)) for second in time_ticks(seconds[-1])], scale.across) if last else []
    return Plot(
        label=curve.label,
        bottom=bottom,
        shapes=[Shape(tone=tone, path=scale.band(seconds, low, high)) for tone, low, high in zip(tones, sums, sums[1:], strict=False)],
        curve=Shape(tone=curve.tone, path=line(scale.points(seconds, values))),
        up=[Tick(place=round(bottom - value * scale.up, 1), label=compact(value)) for value in ticks(top)],
        across=across,
    )


def _along(labels: Sequence[tuple[float, str]], scale: float) -> list[Tick]:
    """Ticks of a horizontal axis; a label that would exceed the drawing is aligned to its right edge."""
    places = [(round(_LEFT + value * scale, 1), label) for value, label in labels]
    return [
        Tick(place=place, label=label) if place + _LETTER * len(label) / 2 < WIDTH else Tick(place=WIDTH, label=label, anchor="end")
        for place, label in places
    ]


def column_chart(columns: Sequence[tuple[str, int]], *, key: str, title: str, description: str, axis: str) -> Chart:
    """A histogram of given bins; shows only as many bin labels as fit."""
    bottom, high = 186.0, 176.0
    most = max(count for _, count in columns) * 1.05 or 1.0
    step = (_RIGHT - _LEFT) / max(len(columns), 8)  # limits the width of a single column
    start = (_LEFT + _RIGHT - step * len(columns)) / 2
    tall = [round(high * count / most, 1) for _, count in columns]
    shapes = [
        Shape(
            tone="two",
            label=label,
            shown=f"{count:,}",
            left=round(start + step * (place + 0.08), 1),
            top=bottom - size,
            width=round(step * 0.84, 1),
            height=size,
        )
        for place, ((label, count), size) in enumerate(zip(columns, tall, strict=True))
    ]
    every = -(-len(columns) // max(int((_RIGHT - _LEFT) / (_LETTER * max(len(label) for label, _ in columns) + 12)), 1))
    labelled = range((len(columns) - 1) % every, len(columns), every)  # counted from the last, which is the model's limit
    across = [Tick(place=round(start + step * (place + 0.5), 1), label=columns[place][0]) for place in labelled]
    up = [Tick(place=round(bottom - high * value / most, 1), label=compact(value)) for value in ticks(most) if value == int(value)]
    plot = Plot(label="", bottom=bottom, shapes=shapes, curve=None, up=up, across=across)
    return Chart(kind="columns", key=key, title=title, description=description, height=232, marks=[plot], axes=[axis])


def point_chart(groups: Sequence[Points], *, key: str, title: str, description: str, along: tuple[str, str]) -> Chart:
    """A scatter plot with equal scales in both directions; each group has the colour at its position.

    Args:
        groups: groups of points; at most as many as there are colours.
        key: makes the ids unique in the page.
        title: for screen readers.
        description: likewise.
        along: labels of the horizontal and the vertical axis.
    """
    high, edge = 330.0, 24.0
    fitted = _fitted(groups, (edge, 8, WIDTH - 8, high - edge))
    # A zero-length line with round ends is a dot, so one path draws a whole group.
    marks = [
        Shape(tone=tone, path="".join(f"M{at(x, y)}h0" for x, y in points.tolist())) for tone, points in zip(GROUPS, fitted, strict=False)
    ]
    return Chart(kind="points", key=key, title=title, description=description, height=high, marks=marks, axes=along)


def _fitted(groups: Sequence[Points], box: tuple[float, float, float, float]) -> list[np.ndarray]:
    """The points moved and scaled into a box (left, top, right, bottom), with larger values higher up."""
    arrays = [np.asarray(points, dtype=float).reshape(-1, 2) for points in groups]
    everything = np.concatenate(arrays)
    low, size = everything.min(axis=0), np.ptp(everything, axis=0)
    room = np.array([box[2] - box[0], box[3] - box[1]])
    scale = min((room[i] / size[i] for i in (0, 1) if size[i] > 0), default=1.0)
    start = np.array([box[0], box[3]]) + (room - size * scale) / 2 * (1, -1)
    return [start + (points - low) * scale * (1, -1) for points in arrays]
