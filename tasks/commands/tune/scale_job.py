"""How a job's encoding scales with ranks on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.adapters.processes.hardware import cores
from tasks.commands.tune.trial_meter import Say
from tasks.commands.tune.tune_bench import TuneBench, open_bench
from tasks.commands.tune.tune_choices import start_of
from tasks.domain.encoding.tune.scaling_laws import ScalePoint, ScalingResult
from tasks.domain.encoding.tune.trial_text import point_line
from tasks.domain.encoding.tune.trials import TrialSettings
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job

ALONE_SECONDS = 20.0  # the longest that one rank takes for the rows
SHARE_ALONE = 0.08  # the same as a share of the whole time
PIECES_A_RANK = 8  # for the largest number of ranks, so that they finish at about the same time
LEAST_ROWS = 256


def scale_job(job: Job, *, minutes: float, say: Say) -> ScalingResult:
    """Encode the same rows, and N times as many, with 1, 2, 4 ... N ranks. If interrupted (Ctrl-C), return what was measured.

    Args:
        job: whose rows are encoded, with its own settings except for the ranks.
        minutes: after which no measurement is begun.
        say: called with a line for every number of ranks.

    Raises:
        BadInput: as for a run, there is nothing to tune, or ranks share the model: one rank would have to hold all of it.
    """
    if job.compute.model_parallel != "off":
        raise BadInput("--scaling begins with one rank, which would hold the whole model: set compute.model_parallel: off to measure it")
    with open_bench(job) as bench:
        ladder = _Ladder(bench=bench, say=say, seconds=60 * minutes)
        interrupted = False
        try:
            ladder.climb()
        except KeyboardInterrupt:
            interrupted = True
        return ScalingResult(
            corpus=job.corpus,
            machine=bench.processor,
            device=bench.launch.device,
            points=tuple(ladder.points),
            notes=(*bench.notes(), *ladder.notes, *slower_than_one(ladder.points)),
            interrupted=interrupted,
        )


def slower_than_one(points: Sequence[ScalePoint]) -> list[str]:
    """Return a note on the numbers of ranks that took longer than one rank for the same rows: neither law fits them."""
    alone = points[0].seconds if points else 0.0
    slow = [str(point.ranks) for point in points[1:] if point.seconds > alone]
    if not slow:
        return []
    cause = "other programs take their cores, or they wait for memory: repeat it on a quiet machine"
    return [f"{', '.join(slow)} ranks took longer than one for the same rows, which neither law describes: {cause}"]


@dataclass(slots=True, kw_only=True)
class _Ladder:
    bench: TuneBench
    say: Say
    seconds: float
    points: list[ScalePoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _rows: int = 0

    def climb(self) -> None:
        """Measure every number of ranks, as long as there is time for another step like the last."""
        began, took = time.monotonic(), 0.0
        for ranks in self._numbers():
            if time.monotonic() - began + took > self.seconds:
                self.notes.append(f"{ranks} ranks and more were not measured for lack of time: raise --minutes")
                return
            start = time.monotonic()
            point = self._step(ranks)
            took = time.monotonic() - start
            self.points.append(point)
            self.say(point_line(point))

    def _numbers(self) -> list[int]:
        """1, 2, 4 ... and the largest number: GPUs or cores."""
        most = self.most
        return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]

    @property
    def most(self) -> int:
        """The most ranks that each have a GPU or a core of their own."""
        return self.bench.launch.ranks if self.bench.launch.device == "cuda" else max(self.bench.launch.ranks, cores())

    def _step(self, ranks: int) -> ScalePoint:
        settings = self._settings(ranks)
        with self.bench.trial(settings) as trial:
            trial.warm()
            if not self._rows:
                self._rows = self._rows_for(trial.encode(LEAST_ROWS, piece=LEAST_ROWS // 2), LEAST_ROWS)
            piece = max(1, self._rows // (PIECES_A_RANK * self.most))
            seconds = trial.encode(self._rows, piece=piece)
            grown = seconds if ranks == 1 else trial.encode(ranks * self._rows, piece=piece)
            return ScalePoint(
                ranks=ranks,
                threads=settings.threads,
                rows=self._rows,
                seconds=seconds,
                grown_rows=ranks * self._rows,
                grown_seconds=grown,
                memory=trial.memory,
            )

    def _rows_for(self, seconds: float, rows: int) -> int:
        """The rows that one rank encodes in its share of the time."""
        return max(LEAST_ROWS, int(rows / max(seconds, 1e-3) * min(ALONE_SECONDS, self.seconds * SHARE_ALONE)))

    def _settings(self, ranks: int) -> TrialSettings:
        """The settings of a trial. Threads of a rank stay the same, so that only the number of ranks changes."""
        own, start = self.bench.job.compute.threads, start_of(self.bench)
        threads = own if own != "auto" else max(1, cores() // self.most)
        return start.model_copy(update={"processes": ranks, "threads": threads})
