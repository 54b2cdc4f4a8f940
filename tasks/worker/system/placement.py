"""Where a rank stands: which of how many, on which device, with how many threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.domain.job.references import References
from tasks.worker.system.sharing_group import SharingGroup

KeptModel = Callable[[Callable[[Sequence[str]], bytes]], bytes]
"""Gives the corpus' quantised model; makes it with the function that it is given, of the rows to calibrate with, where there is none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlacement:
    """A rank among those of its launch. All of a launch's ranks are on one machine."""

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    device: str = "cpu"
    int8: KeptModel | None = None  # None: this corpus keeps none
    sharing: SharingGroup | None = None  # the ranks that hold one model together; None: this one holds a whole one
    references: References | None = None  # what rows may name; None: the user names each file

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")
