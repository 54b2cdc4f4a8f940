"""Measure a trial: ranks are warmed up and kept busy for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.commands.tune.tune_bench import TuneBench
from tasks.domain.encoding.tune.trial_text import trial_line
from tasks.domain.encoding.tune.trials import Axis, Trial, TrialSettings
from tasks.domain.errors import KitestringError

MEASURED_SECONDS = 4.0  # of a trial after warm-up
LONGEST_MEASURED = 60.0  # seconds, if a piece takes long
POLL_SECONDS = 0.1

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class TrialMeter:
    """Measures one trial after another on a bench."""

    bench: TuneBench
    say: Say

    def __call__(self, axis: Axis, settings: TrialSettings) -> Trial:
        """Measure a trial; the result of one that fails has the error."""
        try:
            trial = self._measure(axis, settings)
        except KitestringError as error:
            trial = Trial(axis=axis, settings=settings, error=str(error))
        self.say(trial_line(trial))
        return trial

    def _measure(self, axis: Axis, settings: TrialSettings) -> Trial:
        began = time.monotonic()
        with self.bench.trial(settings) as ranks:
            ranks.warm()
            startup, warm = time.monotonic() - began, ranks.encoders.progress()
            made = settings.model_copy(update={"precision": ranks.encoders.facts().precision})
            ranks.keep_busy(ranks.piece_rows())
            first, at = ranks.encoders.progress(), time.monotonic()
            parts = {work.rank: work.parts for work in warm.work}
            while (passed := time.monotonic() - at) < LONGEST_MEASURED:
                ranks.check()
                now = ranks.encoders.progress()
                all_counted = all(work.parts > parts.get(work.rank, 0) + 1 for work in now.work)  # the first part may still be small
                if passed >= MEASURED_SECONDS and all_counted:
                    break
                time.sleep(POLL_SECONDS)
            rows, tokens = now.rows - first.rows, now.tokens - first.tokens
            lowest, mean = self._compared(made, ranks.vectors())
            return Trial(
                axis=axis,
                settings=made,
                rows_per_second=rows / passed,
                tokens_per_second=tokens / passed,
                memory=ranks.memory,
                halved=ranks.halved,
                seconds=passed,
                startup_seconds=startup,
                lowest_cosine=lowest,
                mean_cosine=mean,
            )

    def _compared(self, settings: TrialSettings, vectors: np.ndarray) -> tuple[float | None, float | None]:
        """Lowest and mean cosine to torch's float32 vectors; None if those were not computed before."""
        if settings.shuffled:
            return None, None
        self.bench.vectors.setdefault((settings.backend, settings.precision), vectors)
        exact = self.bench.vectors.get(("torch", "float32"))
        if exact is None or exact.shape != vectors.shape:
            return None, None
        lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(vectors, axis=1)
        cosines = (exact * vectors).sum(axis=1) / np.maximum(lengths, 1e-12)
        return float(cosines.min()), float(cosines.mean())
