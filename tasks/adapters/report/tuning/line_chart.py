"""Line charts over labelled places, such as speed over batch sizes, which double from place to place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.adapters.report.axes import WIDTH, Tone, compact, line, ticks
from tasks.adapters.report.charts import Chart, Shape, Tick

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 48.0, WIDTH - 14, 24.0, 200.0, 246.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line with (place, value) points; `dashed` lines are not measurements."""

    label: str
    points: Sequence[tuple[float, float]]
    tone: Tone = "one"
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlot:
    """The shapes of a line chart. `wall`: a limit, as a labelled vertical line."""

    lines: Sequence[Shape]
    dashed: Sequence[Shape]
    dots: Sequence[Shape]
    up: Sequence[Tick]
    across: Sequence[Tick]
    bottom: float
    wall: Tick | None = None


def line_chart(
    series: Sequence[Series], *, key: str, title: str, places: Sequence[tuple[float, str]], axis: str, wall: tuple[float, str] | None = None
) -> Chart:
    """Draw lines over an axis of labelled places.

    Args:
        series: the lines; measured ones have a dot at each point.
        key: makes the ids unique in the page.
        title: for screen readers.
        places: the places of the axis, with their labels.
        axis: label of the axis.
        wall: the place of a limit, and its label.
    """
    along = [place for place, _ in places] + ([wall[0]] if wall else [])
    first, last = min(along), max(along)
    across = (_RIGHT - _LEFT - 12) / (last - first or 1.0)
    top = max((value for one in series for _, value in one.points), default=1.0) * 1.08 or 1.0
    up = (_BOTTOM - _TOP) / top

    def drawn(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(_LEFT + 6 + (place - first) * across, _BOTTOM - value * up) for place, value in points]

    plot = LinePlot(
        lines=[Shape(tone=one.tone, path=line(drawn(one.points))) for one in series if one.points and not one.dashed],
        dashed=[Shape(tone=one.tone, path=line(drawn(one.points))) for one in series if one.points and one.dashed],
        dots=[
            _dot(one, value, at) for one in series if not one.dashed for (_, value), at in zip(one.points, drawn(one.points), strict=True)
        ],
        up=[Tick(place=round(_BOTTOM - value * up, 1), label=compact(value)) for value in ticks(top)],
        across=[Tick(place=round(_LEFT + 6 + (place - first) * across, 1), label=label) for place, label in places],
        bottom=_BOTTOM,
        wall=Tick(place=round(_LEFT + 6 + (wall[0] - first) * across, 1), label=wall[1], anchor="end") if wall else None,
    )
    described = "; ".join(f"{one.label}: {', '.join(f'{value:,.4g}' for _, value in one.points)}" for one in series)
    return Chart(kind="lines", key=key, title=title, description=described, height=_HEIGHT, marks=[plot], axes=[axis])


def _dot(one: Series, value: float, at: tuple[float, float]) -> Shape:
    return Shape(tone=one.tone, label=one.label, shown=f"{value:,.4g}", left=round(at[0], 1), top=round(at[1], 1))
