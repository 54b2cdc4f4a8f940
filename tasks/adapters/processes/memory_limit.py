"""How much memory the ranks may take together."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from tasks.adapters.processes.hardware import CGROUPS, OWN_CGROUPS, Launch

MEMORY_INFO = Path("/proc/meminfo")
LIMITS = ("memory.max", "memory.limit_in_bytes")  # in cgroups of version 2 and 1


def memory_limit(launch: Launch) -> int | None:
    """Bytes: of the cards that a launch uses, or what this machine has free, and no more than its container allows. None: unknown."""
    if launch.device == "cuda":
        cards = _cards()
        return sum(cards[: launch.ranks]) or None
    return min(filter(None, (_available(), *_allowed())), default=None)


def _available(told: Path = MEMORY_INFO) -> int | None:
    with suppress(OSError, ValueError):
        for line in told.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _allowed() -> list[int]:
    """What each cgroup allows, from this process's own to the root."""
    found: list[int] = []
    with suppress(OSError):
        for entry in [*OWN_CGROUPS.read_text().splitlines(), "0::/", "1:memory:/"]:
            _, controllers, place = entry.split(":", 2)
            root = CGROUPS / "memory" if controllers else CGROUPS
            own = root / place.lstrip("/")
            found += [limit for folder in (own, *own.parents) if folder.is_relative_to(root) and (limit := _limit(folder))]
    return found


def _limit(folder: Path) -> int | None:
    for name in LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is "max"
            return int((folder / name).read_text())
    return None


def _cards() -> list[int]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    return [int(line) << 20 for line in listed.stdout.split() if line.isdecimal()]
