"""Reports of earlier runs, as far as they can still be read."""

from __future__ import annotations

import heapq
import json

from tasks.adapters.checkpoint import Checkpoint
from tasks.domain.figures import EarlierRun, earlier_run

TRIED = 3  # reports that may be damaged, or of a version that told otherwise, before the search is given up


def report_before(checkpoint: Checkpoint, run: str) -> EarlierRun | None:
    """The last run of this corpus and encoder that reported before this one; run ids sort by time. None: there is none."""
    folder, name = f"{checkpoint.layout.root}/runs/", "/report.json"
    keys = (found.key for found in checkpoint.store.list(folder) if found.key.endswith(name))
    for key in heapq.nlargest(TRIED, (key for key in keys if key.removeprefix(folder).removesuffix(name) < run)):
        try:
            return earlier_run(json.loads(checkpoint.store.read(key) or b""))
        except ValueError:
            continue
    return None
