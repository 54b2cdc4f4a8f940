"""A rank's placement: its number, device and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.domain.job.references import References
from tasks.worker.system.sharing_group import SharingGroup

LoadOrQuantize = Callable[[Callable[[Sequence[str]], bytes]], bytes]
"""Returns the corpus' quantised model. If none is stored yet, makes it with the given function, which takes the calibration rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlacement:
    """A rank among those of its launch. All of a launch's ranks are on one machine."""

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    device: str = "cpu"
    int8: LoadOrQuantize | None = None  # None: this corpus has no quantised model
    sharing: SharingGroup | None = None  # the ranks that share one sharded model; None: this rank holds a whole model
    references: References | None = None  # the files that rows may reference; None: the user names each file

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")
