"""The measurements of `kitestring tune`: a launch with certain settings, and the result of all launches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import GAIN, Backend
from tasks.domain.strict import Strict

Axis = Literal["start", "backend", "ranks", "batch", "workers", "pinned", "precision", "shuffling"]
KEPT_AXES: tuple[Axis, ...] = ("backend", "ranks", "batch", "workers", "pinned")  # none of them changes the identity of a vector


class TrialSettings(Strict):
    """The settings of a trial. None: the setting does not apply to this job."""

    processes: int
    threads: int
    backend: Backend = "torch"
    precision: Literal["auto"] | Precision = "auto"
    batch_tokens: int | None = None
    batch_rows: int | None = None
    num_workers: int | None = None
    pin_memory: bool | None = None
    shuffled: bool = False

    @property
    def batch(self) -> int | None:
        """The batch size in tokens, or in rows if `batch_tokens` is None."""
        return self.batch_tokens if self.batch_tokens is not None else self.batch_rows

    def with_batch(self, size: int) -> TrialSettings:
        """Return the settings with another batch size, in the same unit."""
        return self.model_copy(update={"batch_tokens" if self.batch_tokens is not None else "batch_rows": size})


class Trial(Strict):
    """One launch: its rate after the warm-up, and its memory."""

    axis: Axis
    settings: TrialSettings
    rows_per_second: float = 0.0
    tokens_per_second: float = Field(0.0, description="Without padding; 0: the rows have no tokens.")
    memory: int = Field(0, description="Peak bytes of all ranks together: device memory on GPUs, else resident.")
    halved: int = Field(0, description="Batches that did not fit into memory and were halved.")
    seconds: float = Field(0.0, description="Duration of the measurement.")
    startup_seconds: float = 0.0
    lowest_cosine: float | None = Field(None, description="To the float32 vectors of torch, over the compared rows.")
    mean_cosine: float | None = None
    error: str = Field("", description="Why the trial failed.")

    @property
    def memory_ended(self) -> bool:
        """Whether its batches did not fit into memory."""
        return bool(self.halved) or (self.axis == "batch" and bool(self.error))


class TuneResult(Strict):
    """All trials in order. The vectors of `best` have the same identity as the job's."""

    corpus: str
    machine: str
    device: str
    rows: int = Field(description="Rows of the sample.")
    trials: tuple[Trial, ...]
    memory_limit: int | None = Field(None, description="Bytes that all ranks together may use; None: unknown.")
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    kept: bool = Field(False, description="Whether the best settings are stored in the checkpoint.")

    @property
    def start(self) -> Trial | None:
        """The reference trial: the settings of a run without tuning."""
        return next((trial for trial in self.trials if trial.axis == "start"), None)

    @property
    def best(self) -> Trial | None:
        """The best trial whose vectors have the job's identity."""
        return best_of(self.trials)

    @property
    def best_precision(self) -> Trial | None:
        """The fastest trial of another precision, if it is faster than the best; another precision is another encoder."""
        best = self.best
        others = [trial for trial in self.trials if trial.axis == "precision" and not trial.error]
        fastest = max(others, key=lambda trial: trial.rows_per_second, default=None)
        if best is None or fastest is None or fastest.settings.precision == best.settings.precision:
            return None
        return fastest if fastest.rows_per_second > best.rows_per_second * GAIN else None


def best_of(trials: tuple[Trial, ...] | list[Trial]) -> Trial | None:
    """Return the last trial that was faster than the best before it by more than noise (GAIN)."""
    best: Trial | None = None
    for trial in trials:
        if trial.error or trial.halved or (trial.axis != "start" and trial.axis not in KEPT_AXES):
            continue
        if best is None or trial.rows_per_second > best.rows_per_second * GAIN:
            best = trial
    return best
