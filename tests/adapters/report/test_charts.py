"""Charts: what is drawn is in proportion to its figures, and within the drawing."""

from __future__ import annotations

import re

import pytest

from tasks.adapters.report.axes import WIDTH, clock, compact, shorten, ticks, time_ticks
from tasks.adapters.report.charts import Bar, Curve, bar_chart, column_chart, curve_chart, point_chart

TOLD = {"key": "k", "title": "t", "description": "d"}


def places(path: str) -> list[tuple[float, float]]:
    """The points that a path goes through."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [(150, [0, 50, 100, 150]), (3.2, [0, 1, 2, 3]), (1.08, [0, 0.5, 1.0]), (9_000, [0, 5_000]), (1e-3, [0, 5e-4, 1e-3])],
)
def test_ticks_are_round_and_few(end, expected):
    assert ticks(end) == pytest.approx(expected)


@pytest.mark.parametrize(("end", "last"), [(2, "2 s"), (59, "50 s"), (192, "3:00"), (9_800, "2:30:00"), (10 * 86_400, "240:00:00")])
def test_times_on_an_axis_are_round_and_few(end, last):
    found = time_ticks(end)
    assert clock(found[-1]) == last
    assert len(found) <= 7


def test_labels_are_short_and_plain():
    assert (clock(90), clock(3700), clock(5)) == ("1:30", "1:01:40", "5 s")
    assert (compact(1234), compact(950), compact(2_500_000)) == ("1.23k", "950", "2.5M")
    assert shorten("docs/2026/" + "x" * 80 + ".parquet", 30).endswith("x.parquet")
    assert len(shorten("a\nb\0" * 1000, 30)) == 30


def test_bars_are_as_long_as_their_values():
    bars = [Bar(label=str(value), value=value, shown="") for value in (0, 5, 10)]
    none, half, whole = (mark.width for mark in bar_chart(bars, **TOLD).marks)
    assert (none, half, whole) == (0, pytest.approx((WIDTH + 9) / 2, abs=0.1), WIDTH)  # beside the round ends


def test_a_curve_ends_where_its_clock_does_and_its_bands_add_up_to_it():
    curve = Curve(label="rows", points=[(0, 4), (5, 0), (10, 8)], bands=[[1, 0, 6], [3, 0, 2]])
    (plot,) = curve_chart([curve], **TOLD).marks
    drawn = places(plot.curve.path)
    assert drawn[-1][0] == WIDTH - 8
    assert places(plot.shapes[-1].path)[:3] == drawn
    heights = [plot.bottom - y for _, y in drawn]
    assert heights == pytest.approx([heights[2] / 2, 0, heights[2]], abs=0.1)
    assert all(0 <= x <= WIDTH and 0 <= y <= plot.bottom for x, y in drawn)


def test_only_the_last_of_several_curves_has_the_clock_and_no_label_leaves_the_drawing():
    curves = [Curve(label=name, points=[(0, 1), (14_400, 1)]) for name in ("a", "b")]
    first, last = curve_chart(curves, **TOLD).marks
    assert not first.across
    assert (last.across[-1].label, last.across[-1].anchor, last.across[-1].place) == ("4:00:00", "end", WIDTH)


def test_labels_of_columns_are_thinned_to_those_that_fit_and_the_last_is_kept():
    (plot,) = column_chart([(f"{n * 10_000:,}", n) for n in range(1, 65)], axis="tokens", **TOLD).marks
    gaps = [after.place - before.place for before, after in zip(plot.across, plot.across[1:], strict=False)]
    assert min(gaps) > 45
    assert plot.across[-1].label == "640,000"
    assert len(plot.shapes) == 64


def test_columns_of_single_rows_have_no_half_rows_on_their_axis():
    (plot,) = column_chart([("8", 1)], axis="tokens", **TOLD).marks
    assert [tick.label for tick in plot.up] == ["0", "1"]
    assert plot.shapes[0].width < 50


def test_points_keep_their_distances_and_what_is_more_is_higher():
    chart = point_chart([[(0, 0), (2, 0)], [(0, 1)]], along=("a", "b"), **TOLD)
    (left, right), (up,) = (places(mark.path) for mark in chart.marks)
    assert (right[0] - left[0]) == pytest.approx(2 * (left[1] - up[1]), abs=0.2)
    assert up[0] == left[0]
    assert all(0 <= x <= WIDTH and 0 <= y <= chart.height for x, y in (left, right, up))


def test_one_point_alone_is_drawn():
    (mark,) = point_chart([[(3, 3)]], along=("a", "b"), **TOLD).marks
    assert len(places(mark.path)) == 1
