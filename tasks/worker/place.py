"""Where a rank stands: which of how many, on which device, with how many threads."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A rank among those of its launch. All of a launch's ranks are on one machine."""

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    device: str = "cpu"

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


def cores_available(quota: Path = CGROUP_QUOTA) -> int:
    """Cores that this process may use: its affinity, or less where a container's quota says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        limit, period = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if limit == "max" else max(1, min(cores, math.ceil(int(limit) / int(period))))
