"""A sweep tries one setting after another, each with the best of those before it, and can be cut short anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.domain.encoding.tune.sweep import Sweep, SweepChoices
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings, TuneResult, best_of
from tasks.domain.encoding.tuning import Backend

START = TrialSettings(processes=2, threads=1, precision="float32", batch_tokens=1024)
EVERYTHING = SweepChoices(
    backends=("torch", "openvino"),
    ranks=((1, 2), (2, 1)),
    batches=(256, 512, 1024, 2048, 4096),
    precisions=("float32", "bfloat16"),
)


def swept(speed: Callable[[TrialSettings], float], choices: SweepChoices = EVERYTHING, **more: Any) -> Sweep:
    memory = more.pop("memory", lambda _: 1 << 30)

    def measure(axis: Axis, settings: TrialSettings) -> Trial:
        return Trial(axis=axis, settings=settings, rows_per_second=speed(settings), memory=memory(settings))

    sweep = Sweep(choices=choices, measure=measure, seconds=more.pop("seconds", 1e9), **more)
    sweep.run(START)
    return sweep


def result_of(sweep: Sweep) -> TuneResult:
    return TuneResult(corpus="c", machine="m", device="cpu", rows=1, trials=tuple(sweep.trials))


def of(sweep: Sweep, axis: Axis) -> list[TrialSettings]:
    return [trial.settings for trial in sweep.trials if trial.axis == axis]


def test_each_setting_is_tried_with_the_best_of_those_before_it() -> None:
    sweep = swept(lambda s: (2.0 if s.backend == "openvino" else 1.0) * (1.5 if s.processes == 1 else 1.0))
    assert [s.backend for s in of(sweep, "ranks")] == ["openvino"]
    assert {(s.backend, s.processes) for s in of(sweep, "batch")} == {("openvino", 1)}
    best = best_of(sweep.trials)
    assert best is not None
    assert (best.settings.backend, best.settings.processes, best.settings.batch_tokens) == ("openvino", 1, 1024)


def test_what_is_no_faster_than_noise_changes_nothing() -> None:
    best = best_of(swept(lambda s: 100.0 + 2.9 * (s.backend == "openvino")).trials)
    assert best is not None
    assert best.settings == START


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_int8_is_tried_by_what_computes_it_there(backend: Backend) -> None:
    tried = of(swept(lambda _: 1.0, SweepChoices(precisions=("float32", "int8", "float8"), int8_by=backend)), "precision")
    assert [(settings.precision, settings.backend) for settings in tried] == [("float32", "torch"), ("int8", backend), ("float8", "torch")]


def test_neither_a_precision_nor_the_order_of_rows_wins() -> None:
    result = result_of(swept(lambda s: 1.0 + 9 * (s.precision == "bfloat16") + 5 * s.shuffled))
    assert result.best is not None
    assert result.best.settings.precision == "float32"
    assert not result.best.settings.shuffled
    assert result.best_precision is not None
    assert result.best_precision.settings.precision == "bfloat16"


def test_shuffled_rows_are_shown_beside_the_same_rows_in_order() -> None:
    assert [s.shuffled for s in of(swept(lambda _: 1.0), "shuffling")] == [False, True]


def test_larger_batches_end_where_memory_would_without_being_tried() -> None:
    sweep = swept(
        lambda _: 1.0,
        SweepChoices(batches=(1024, 2048, 4096, 8192), memory=4 << 30),
        memory=lambda s: ((s.batch_tokens or 0) // 1024) << 30,
    )
    batches = [trial for trial in sweep.trials if trial.axis == "batch"]
    assert [trial.settings.batch_tokens for trial in batches] == [2048, 4096]
    assert [trial.memory_ended for trial in batches] == [False, True]
    assert "not tried" in batches[-1].error


def test_batches_that_were_halved_end_it_and_do_not_win() -> None:
    sizes: list[int] = []

    def measure(axis: Axis, settings: TrialSettings) -> Trial:
        sizes.append(settings.batch_tokens or 0)
        return Trial(axis=axis, settings=settings, rows_per_second=float(sizes[-1]), halved=int(sizes[-1] > 2048))

    sweep = Sweep(choices=SweepChoices(batches=(1024, 2048, 4096, 8192)), measure=measure, seconds=1e9)
    sweep.run(START)
    assert max(sizes) == 4096
    best = best_of(sweep.trials)
    assert best is not None
    assert best.settings.batch_tokens == 2048


def test_batch_sizes_that_only_get_slower_are_not_followed_to_the_end() -> None:
    sizes = tuple(1024 << power for power in range(8))
    sweep = swept(lambda s: 1024.0 / (s.batch_tokens or 1), SweepChoices(batches=sizes))
    assert [s.batch_tokens for s in of(sweep, "batch")] == [2048, 4096]


def test_nothing_is_begun_that_would_end_after_the_time_is_up() -> None:
    now = [0.0]

    def slow(_: TrialSettings) -> float:
        now[0] += 10.0
        return 1.0

    sweep = swept(slow, clock=lambda: now[0], seconds=35.0)
    assert now[0] == 30.0
    assert sweep.left_out[0] == "batch"
    assert "shuffling" in sweep.left_out


def test_what_was_measured_is_there_when_it_is_interrupted() -> None:
    made: list[Trial] = []

    def measure(axis: Axis, settings: TrialSettings) -> Trial:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(Trial(axis=axis, settings=settings, rows_per_second=1.0))
        return made[-1]

    sweep = Sweep(choices=EVERYTHING, measure=measure, seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(START)
    assert sweep.trials == made


def test_a_trial_that_fails_is_shown_and_passed_over() -> None:
    def measure(axis: Axis, settings: TrialSettings) -> Trial:
        return Trial(axis=axis, settings=settings, **({"error": "no"} if axis == "backend" else {"rows_per_second": 1.0}))

    sweep = Sweep(choices=EVERYTHING, measure=measure, seconds=1e9)
    sweep.run(START)
    assert {s.backend for s in of(sweep, "batch")} == {"torch"}
    assert [trial.error for trial in sweep.trials if trial.axis == "backend"] == ["no"]
