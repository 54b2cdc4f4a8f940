"""The most memory that a rank has had."""

from __future__ import annotations

import sys
from typing import Any

from tasks.adapters.hardware import peak_resident


def peak_memory() -> dict[str, int]:
    """Bytes so far: '' of this process itself, 'GPU' of what torch took on its device. Helpers that decode are not counted."""
    sizes = {"": peak_resident()}
    torch: Any = sys.modules.get("torch")  # an encoder without it has no GPU, and its import takes seconds
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        sizes["GPU"] = int(torch.cuda.max_memory_reserved())
    return sizes
