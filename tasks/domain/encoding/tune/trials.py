"""What `kitestring tune` measures: one launch with some settings, and all of them as one result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import GAIN, Backend
from tasks.domain.strict import Strict

Axis = Literal["start", "backend", "ranks", "batch", "workers", "pinned", "precision", "shuffling"]
KEPT_AXES: tuple[Axis, ...] = ("backend", "ranks", "batch", "workers", "pinned")  # those that change no vector's identity


class TrialSettings(Strict):
    """All that a trial sets. None: it has no meaning for this work."""

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
        """Tokens of a batch, or its rows where they are what fills it."""
        return self.batch_tokens if self.batch_tokens is not None else self.batch_rows

    def with_batch(self, size: int) -> TrialSettings:
        """The same with batches of another size."""
        return self.model_copy(update={"batch_tokens" if self.batch_tokens is not None else "batch_rows": size})


class Trial(Strict):
    """One launch: its rate once the encoder was warm, and its memory."""

    axis: Axis
    settings: TrialSettings
    rows_per_second: float = 0.0
    tokens_per_second: float = Field(0.0, description="Padding not counted; 0: the rows have no tokens.")
    memory: int = Field(0, description="Most bytes of all ranks together: on GPUs of the cards, else resident.")
    halved: int = Field(0, description="Batches that did not fit into memory and were halved.")
    seconds: float = Field(0.0, description="Of measuring.")
    startup_seconds: float = 0.0
    lowest_cosine: float | None = Field(None, description="To the vectors of torch in float32, over the compared rows.")
    mean_cosine: float | None = None
    error: str = Field("", description="Why nothing could be measured.")

    @property
    def memory_ended(self) -> bool:
        """Whether its batches were too large for the memory."""
        return bool(self.halved) or (self.axis == "batch" and bool(self.error))


class TuneResult(Strict):
    """All trials in the order in which they were made. `best` gives vectors of the same identity as the job's."""

    corpus: str
    machine: str
    device: str
    rows: int = Field(description="Of the sample.")
    trials: tuple[Trial, ...]
    memory_limit: int | None = Field(None, description="Bytes that the ranks may take together; None: unknown.")
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    kept: bool = Field(False, description="Whether the winner is kept with the checkpoint.")

    @property
    def start(self) -> Trial | None:
        """The trial that the others are compared with: what a run does by itself."""
        return next((trial for trial in self.trials if trial.axis == "start"), None)

    @property
    def best(self) -> Trial | None:
        """The winner among those whose vectors have the job's identity."""
        return best_of(self.trials)

    @property
    def best_precision(self) -> Trial | None:
        """The fastest other precision, if it gains anything: another precision is another encoder."""
        best = self.best
        others = [trial for trial in self.trials if trial.axis == "precision" and not trial.error]
        fastest = max(others, key=lambda trial: trial.rows_per_second, default=None)
        if best is None or fastest is None or fastest.settings.precision == best.settings.precision:
            return None
        return fastest if fastest.rows_per_second > best.rows_per_second * GAIN else None


def best_of(trials: tuple[Trial, ...] | list[Trial]) -> Trial | None:
    """The last trial that was faster than the best before it by more than noise."""
    best: Trial | None = None
    for trial in trials:
        if trial.error or trial.halved or (trial.axis != "start" and trial.axis not in KEPT_AXES):
            continue
        if best is None or trial.rows_per_second > best.rows_per_second * GAIN:
            best = trial
    return best
