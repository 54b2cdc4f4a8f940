"""The order in which settings are tried: one after another, each with the best of those before it.

All combinations would take hours. Settings that change how long a batch takes come first, then what fills it; precision and shuffling
come last, because they are only shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings, best_of
from tasks.domain.encoding.tuning import Backend

FALLS = 2  # batch sizes in a row that are slower than the best by a tenth: larger ones will be, too
SLOWER = 0.9
ROOM = 0.95  # of the memory, which the rest of the machine needs some of

Measure = Callable[[Axis, TrialSettings], Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepChoices:
    """What a machine and a job leave to choose from. Empty: nothing."""

    backends: Sequence[Backend] = ()
    ranks: Sequence[tuple[int, int]] = ()  # processes and threads of each
    batches: Sequence[int] = ()  # ascending
    workers: Sequence[int] = ()
    pinned: Sequence[bool] = ()
    precisions: Sequence[Precision] = ()  # float32 first: the others are compared with it
    int8_by: Backend = "openvino"
    memory: int | None = None  # bytes


@dataclass(slots=True, kw_only=True)
class Sweep:
    """One sweep. `trials` is right at any moment, so that it may be cut short."""

    choices: SweepChoices
    measure: Measure
    seconds: float
    clock: Callable[[], float] = time.monotonic
    trials: list[Trial] = field(default_factory=list)
    left_out: list[Axis] = field(default_factory=list)  # for want of time
    _longest: float = 0.0
    _deadline: float = 0.0

    def run(self, start: TrialSettings) -> None:
        """Try everything from these settings on, until the time is up."""
        self._deadline = self.clock() + self.seconds
        settled = self._try("start", start)
        if settled is None or settled.error:
            return
        self._over("backend", lambda best: [_set(best, backend=backend) for backend in self.choices.backends])
        self._over("ranks", lambda best: [_set(best, processes=ranks, threads=threads) for ranks, threads in self.choices.ranks])
        self._batches()
        self._over("workers", lambda best: [_set(best, num_workers=workers) for workers in self.choices.workers])
        self._over("pinned", lambda best: [_set(best, pin_memory=pinned) for pinned in self.choices.pinned])
        self._over("precision", lambda best: [self._in(best, precision) for precision in self.choices.precisions], again=True)
        self._over("shuffling", lambda best: [_set(best, shuffled=shuffled) for shuffled in (False, True)], again=True)

    def _over(self, axis: Axis, candidates: Callable[[TrialSettings], list[TrialSettings]], *, again: bool = False) -> None:
        """Try some. `again`: also what was measured before, beside which the others are shown."""
        best = best_of(self.trials)
        if best is None:
            return
        for settings in candidates(best.settings):
            if (again or settings != best.settings) and self._try(axis, settings) is None:
                return

    def _batches(self) -> None:
        """Sizes around the present one, then larger ones until memory ends or nothing is gained."""
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
            if (wanted := self._too_much(before, here, size)) is not None:
                here = Trial(axis="batch", settings=settings, error=f"not tried: it would take {wanted / 2**30:.1f} GiB of memory")
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
        """Bytes that batches of a size will take, by what the last two took, where that is more than there are."""
        first, second = before.settings.batch or 0, here.settings.batch or 0
        slope = max(0.0, (here.memory - before.memory) / (second - first)) if second > first else 0.0
        wanted = int(here.memory + slope * (size - second))
        return wanted if self.choices.memory is not None and wanted > ROOM * self.choices.memory else None

    def _in(self, settings: TrialSettings, precision: Precision) -> TrialSettings:
        """In another precision; int8 has one backend only."""
        return _set(settings, precision=precision, **({"backend": self.choices.int8_by} if precision == "int8" else {}))

    def _try(self, axis: Axis, settings: TrialSettings) -> Trial | None:
        """Measure, if there is time for one more."""
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
