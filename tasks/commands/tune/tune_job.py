"""Sweep the settings of a job on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.commands.tune.trial_meter import Say, TrialMeter
from tasks.commands.tune.tune_bench import TuneBench, open_bench
from tasks.commands.tune.tune_choices import choices_for, start_of
from tasks.commands.tune.tune_settings import keep_settings
from tasks.domain.encoding.tune.sweep import Sweep
from tasks.domain.encoding.tune.trials import KEPT_AXES, Trial, TrialSettings, TuneResult
from tasks.domain.errors import Permanent
from tasks.domain.job.job import Job

ALIKE = 1.1  # ratio of two rates of the same settings from which they count as different


def tune_job(job: Job, *, minutes: float, say: Say, keep: bool = False) -> TuneResult:
    """Sweep the settings of a job. If interrupted (Ctrl-C), return what was measured and store nothing.

    Args:
        job: whose rows are encoded.
        minutes: after which no trial is begun.
        say: called with a line for every trial.
        keep: store the best settings in the checkpoint; nothing else is written.

    Raises:
        BadInput: as for a run, or there is nothing to tune.
        Permanent: the job's own settings could not be measured.
    """
    with open_bench(job) as bench:
        sweep = Sweep(choices=choices_for(bench), measure=TrialMeter(bench=bench, say=say), seconds=60 * minutes)
        interrupted = False
        try:
            sweep.run(start_of(bench))
        except KeyboardInterrupt:
            interrupted = True
        if sweep.trials and sweep.trials[0].error:
            raise Permanent(f"the job's own settings could not be measured: {sweep.trials[0].error}")
        return _stored(bench, _result(bench, sweep, interrupted=interrupted), keep=keep and not interrupted)


def _result(bench: TuneBench, sweep: Sweep, *, interrupted: bool) -> TuneResult:
    notes = bench.notes()
    if sweep.left_out:
        notes.append(f"not measured, or not completely, for lack of time: {', '.join(sweep.left_out)}: raise --minutes")
    if note := unlike(sweep.trials):
        notes.append(note)
    return TuneResult(
        corpus=bench.job.corpus,
        machine=bench.processor,
        device=bench.launch.device,
        rows=bench.rows.num_rows,
        trials=tuple(sweep.trials),
        memory_limit=bench.memory,
        notes=tuple(notes),
        interrupted=interrupted,
    )


def unlike(trials: Sequence[Trial]) -> str:
    """A note if the same settings were measured twice with different rates; otherwise ""."""
    rates: dict[TrialSettings, list[float]] = {}
    for trial in trials:
        if not trial.error:
            rates.setdefault(trial.settings, []).append(trial.rows_per_second)
    low, high = max(((min(of_one), max(of_one)) for of_one in rates.values()), key=lambda pair: pair[1] / pair[0], default=(1.0, 1.0))
    if high < low * ALIKE:
        return ""
    return f"the same settings gave {low:,.0f} and {high:,.0f} rows/s: other programs disturb the measurement; repeat it on an idle machine"


def _stored(bench: TuneBench, result: TuneResult, *, keep: bool) -> TuneResult:
    if not keep or result.best is None:
        return result
    if not any(trial.axis in KEPT_AXES and not trial.error for trial in result.trials):
        # Stored, the job's own settings would keep its runs from measuring for themselves.
        note = "nothing was compared with the job's own settings, so nothing is stored: --minutes gives more"
        return result.model_copy(update={"notes": (*result.notes, note)})
    overridden = keep_settings(bench, result.best)
    notes = [*result.notes, "the best settings are stored in the checkpoint: later runs on such a machine use them where the job says auto"]
    notes += [f"compute.{name} is set in the job, whose value is used" for name in overridden]
    return result.model_copy(update={"notes": tuple(notes), "kept": True})
