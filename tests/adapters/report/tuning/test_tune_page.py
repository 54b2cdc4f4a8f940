"""The page of a sweep draws what was measured, and marks where memory ends."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tasks.adapters.report.tuning.line_chart import LinePlot, Series, line_chart
from tasks.adapters.report.tuning.tune_page import batch_trials, render_scaling, render_tune
from tasks.domain.encoding.tune.scaling_laws import ScalePoint, ScalingResult
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings, TuneResult

START = TrialSettings(processes=2, threads=1, precision="float32", batch_tokens=1024)


def trial(axis: Axis, speed: float, batch: int = 1024, **settings: object) -> Trial:
    made = START.with_batch(batch).model_copy(update=settings)
    return Trial(axis=axis, settings=made, rows_per_second=speed, memory=batch << 20)


def sweep(*trials: Trial) -> TuneResult:
    return TuneResult(corpus="rows <b>", machine="a processor", device="cpu", rows=100, trials=trials, memory_limit=8 << 30)


def test_the_page_has_speed_and_memory_by_batch_size_and_needs_nothing_but_itself() -> None:
    ended = Trial(axis="batch", settings=START.with_batch(4096), error="not tried: it would take 9.0 GiB of memory")
    page = render_tune(sweep(trial("start", 100.0), trial("batch", 150.0, 2048), ended), settings="compute:\n  batch_tokens: 2048\n")
    assert "1.50 times as fast" in page
    assert "out of memory" in page
    assert "Memory by batch size" in page
    assert "batch_tokens: 2048" in page
    assert "rows &lt;b&gt;" in page
    assert "<script" not in page
    for drawing in page.split("<svg")[2:]:  # the first is the mark beside the name
        ET.fromstring("<svg" + drawing.partition("</svg>")[0] + "</svg>")


def test_batches_are_compared_with_the_trial_that_they_began_from() -> None:
    trials = trial("start", 100.0), trial("ranks", 200.0, processes=1, threads=2), trial("batch", 150.0, 512, processes=1, threads=2)
    assert [t.rows_per_second for t in batch_trials(sweep(*trials))] == [150.0, 200.0]


def test_scaling_shows_the_ideal_and_both_laws() -> None:
    points = [ScalePoint(ranks=n, threads=1, rows=100, seconds=10 / n, grown_rows=100 * n, grown_seconds=10) for n in (1, 2)]
    page = render_scaling(ScalingResult(corpus="rows", machine="m", device="cpu", points=tuple(points)))
    assert "2 ranks are 2.00 times as fast as one" in page
    assert "Amdahl" in page
    assert "Gustafson" in page
    assert page.count("dashed") >= 4


def test_an_interrupted_measurement_claims_no_comparison() -> None:
    assert "Nothing was measured" in render_tune(sweep(), settings="")
    assert "Only the job&#39;s own settings were measured" in render_tune(sweep(trial("start", 100.0)), settings="")
    assert "Nothing is faster than the job&#39;s own settings" in render_tune(sweep(trial("start", 9.0), trial("batch", 8.0)), settings="")
    alone = ScalePoint(ranks=1, threads=1, rows=100, seconds=10, grown_rows=100, grown_seconds=10)
    for points, told in (((), "Nothing was measured"), ((alone,), "Only one rank was measured")):
        assert told in render_scaling(ScalingResult(corpus="rows", machine="m", device="cpu", points=points, interrupted=True))


def test_a_line_goes_through_its_points_and_the_wall_stands_at_its_place() -> None:
    one = Series(label="rows/s", points=[(0, 1.0), (2, 2.0)])
    chart = line_chart([one], key="k", title="t", places=[(0, "a"), (1, "b"), (2, "c")], axis="x", wall=(2, "ends"))
    (plot,) = chart.marks
    assert isinstance(plot, LinePlot)
    low, high = plot.dots
    assert low.left == plot.across[0].place
    assert high.left == plot.across[2].place
    assert high.top < low.top
    assert plot.wall is not None
    assert plot.wall.place == plot.across[2].place
