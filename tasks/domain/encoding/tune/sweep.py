"""The order of a sweep: one setting after another, each tried with the best values of those before it.

All combinations would take hours. Settings that change the time of a batch come first, then what fills a batch; precision and
shuffling come last, because they are only shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings, best_of
from tasks.domain.encoding.tuning import Backend

FALLS = 2  # successive batch sizes slower than SLOWER times the best after which larger ones are not tried
SLOWER = 0.9
ROOM = 0.95  # share of the memory to use; the rest of the machine needs some

Measure = Callable[[Axis, TrialSettings], Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepChoices:
    """The candidates that a machine and a job allow for each setting. Empty: the setting is not varied."""

    backends: Sequence[Backend] = ()
    ranks: Sequence[tuple[int, int]] = ()  # processes and threads of each
    batches: Sequence[int] = ()  # ascending
    workers: Sequence[int] = ()
    pinned: Sequence[bool] = ()
    precisions: Sequence[Precision] = ()  # float32 first, as the reference for the others
    int8_by: Backend = "openvino"
    memory: int | None = None  # bytes


@dataclass(slots=True, kw_only=True)
class Sweep:
    """One sweep. `trials` is valid at any moment, so a sweep may be interrupted."""

    choices: SweepChoices
    measure: Measure
    seconds: float
    clock: Callable[[], float] = time.monotonic
    trials: list[Trial] = field(default_factory=list)
    left_out: list[Axis] = field(default_factory=list)  # for lack of time
    _longest: float = 0.0
    _deadline: float = 0.0

    def run(self, start: TrialSettings) -> None:
        """Vary each setting in turn, beginning with `start`, until the time is up."""
        self._deadline = self.clock() + self.seconds
        first = self._try("start", start)
        if first is None or first.error:
            return
        self._over("backend", lambda best: [_set(best, backend=backend) for backend in self.choices.backends])
        self._over("ranks", lambda best: [_set(best, processes=ranks, threads=threads) for ranks, threads in self.choices.ranks])
        self._batches()
        self._over("workers", lambda best: [_set(best, num_workers=workers) for workers in self.choices.workers])
        self._over("pinned", lambda best: [_set(best, pin_memory=pinned) for pinned in self.choices.pinned])
        self._over("precision", lambda best: [self._in(best, precision) for precision in self.choices.precisions], again=True)
        self._over("shuffling", lambda best: [_set(best, shuffled=shuffled) for shuffled in (False, True)], again=True)

    def _over(self, axis: Axis, candidates: Callable[[TrialSettings], list[TrialSettings]], *, again: bool = False) -> None:
        """Try the candidates of a setting. `again`: also the one already measured, as the reference for the others."""
        best = best_of(self.trials)
        if best is None:
            return
        for settings in candidates(best.settings):
            if (again or settings != best.settings) and self._try(axis, settings) is None:
                return

    def _batches(self) -> None:
        """Try two smaller batch sizes, then larger ones until memory runs out or the speed falls."""
        best = best_of(self.trials)
        now = best.settings.batch if best else None
        if best is None or now is None:
            return
        for size in reversed([size for size in self.choices.batches if size < now][-2:]):
            if self._try("batch", best.settings.with_batch(size)) is None:
                return
        for trial in self._growing(best, [size for size in self.choices.batches if size > now]):
            if trial.memory_ended:
                return

    def _growing(self, start: Trial, sizes: Sequence[int]) -> Iterator[Trial]:
        falls, before, here = 0, start, start
        for size in sizes:
            settings = start.settings.with_batch(size)
            if (needed := self._too_much(before, here, size)) is not None:
                here = Trial(axis="batch", settings=settings, error=f"not tried: it would take {needed / 2**30:.1f} GiB of memory")
                self.trials.append(here)
                yield here
                return
            trial = self._try("batch", settings)
            if trial is None:
                return
            yield trial
            before, here = here, trial
            fastest = max(known.rows_per_second for known in self.trials)
            falls = falls + 1 if trial.rows_per_second < fastest * SLOWER else 0
            if falls >= FALLS:
                return

    def _too_much(self, before: Trial, here: Trial, size: int) -> int | None:
        """Return the bytes that batches of a size will need, extrapolated from the last two trials, if the memory does not have them."""
        first, second = before.settings.batch or 0, here.settings.batch or 0
        slope = max(0.0, (here.memory - before.memory) / (second - first)) if second > first else 0.0
        needed = int(here.memory + slope * (size - second))
        return needed if self.choices.memory is not None and needed > ROOM * self.choices.memory else None

    def _in(self, settings: TrialSettings, precision: Precision) -> TrialSettings:
        """Return the settings in another precision; int8 has one backend only."""
        return _set(settings, precision=precision, **({"backend": self.choices.int8_by} if precision == "int8" else {}))

    def _try(self, axis: Axis, settings: TrialSettings) -> Trial | None:
        """Measure one trial, if the remaining time allows the longest one so far."""
        began = self.clock()
        if self.trials and began + self._longest > self._deadline:
            if axis not in self.left_out:
                self.left_out.append(axis)
            return None
        trial = self.measure(axis, settings)
        self.trials.append(trial)
        self._longest = max(self._longest, self.clock() - began)
        return trial


def _set(settings: TrialSettings, **values: object) -> TrialSettings:
    return settings.model_copy(update=values)
