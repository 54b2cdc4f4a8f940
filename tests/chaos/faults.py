"""Every fault by name. Each breaks something in a run of its trial and returns whether it struck before the run ended."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos import kills
from tests.chaos.trial import Skipped, Trial

Break = Callable[[Trial], bool]

FAULTS: dict[str, Break] = {
    "nothing": kills.nothing,
    "kill flow": kills.kill_flow,
    "kill guard": kills.kill_guard,
    "kill agent": kills.kill_agent,
    "kill rank": kills.kill_rank,
    "kill all ranks": kills.kill_ranks,
    "terminate flow": kills.terminate_flow,
}

__all__ = ["FAULTS", "Break", "Skipped"]
