"""The memory that all ranks together may use."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tasks.adapters.processes.hardware import CGROUPS, OWN_CGROUPS, Launch

MEMORY_INFO = Path("/proc/meminfo")
LIMITS = ("memory.max", "memory.limit_in_bytes")  # in cgroups of version 2 and 1


def memory_limit(launch: Launch) -> int | None:
    """Memory limit in bytes: of the GPUs that a launch uses, or on CPUs the available memory, bounded by the container's limit. None: unknown."""
    if launch.device == "cuda":
        cards = _cards()
        return sum(cards[: launch.ranks]) or None
    return min(filter(None, (_available(), *_allowed())), default=None)


def _available(info: Path = MEMORY_INFO) -> int | None:
    with suppress(OSError, ValueError):
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _allowed() -> list[int]:
    """The memory limits of the cgroups, from this process's own to the root."""
    limits: list[int] = []
    with suppress(OSError):
        for entry in [*OWN_CGROUPS.read_text().splitlines(), "0::/", "1:memory:/"]:
            _, controllers, place = entry.split(":", 2)
            root = CGROUPS / "memory" if controllers else CGROUPS
            own = root / place.lstrip("/")
            limits += [limit for folder in (own, *own.parents) if folder.is_relative_to(root) and (limit := _limit(folder))]
    return limits


def _limit(folder: Path) -> int | None:
    for name in LIMITS:
        with suppress(OSError, ValueError):  # the file is missing, or has "max"
            return int((folder / name).read_text())
    return None


def _cards() -> list[int]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return [int(line) << 20 for line in listed.stdout.split() if line.isdecimal()]
