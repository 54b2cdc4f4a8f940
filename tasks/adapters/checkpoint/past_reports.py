"""Reports of earlier runs, as far as they can still be read."""

from __future__ import annotations

import heapq
import json
from itertools import islice

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.files.access import root_of
from tasks.domain.report.figures import EarlierRun, earlier_run

SAMPLED = 100  # entries of a ledger whose runs are asked where they read
REPORTS_TRIED = 3  # reports that may be damaged, or of another version, before the search is given up


def report_before(checkpoint: Checkpoint, run: str) -> EarlierRun | None:
    """The last run of this corpus and encoder that reported before this one; run ids sort by time. None: there is none."""
    folder, name = f"{checkpoint.layout.root}/runs/", "/report.json"
    keys = (found.key for found in checkpoint.store.list(folder) if found.key.endswith(name))
    for key in heapq.nlargest(REPORTS_TRIED, (key for key in keys if key.removeprefix(folder).removesuffix(name) < run)):
        try:
            return earlier_run(json.loads(checkpoint.store.read(key) or b""))
        except ValueError:
            continue
    return None


def known_roots(checkpoint: Checkpoint, target: str) -> set[str]:
    """Places that rows of a collection were read from; of one that was filled before places were recorded, those in its runs' reports."""
    roots = checkpoint.roots(target)
    if roots:
        return roots
    runs = {entry.run for entry in islice(checkpoint.loads(target), SAMPLED)}
    return {root for run in runs if (root := root_read_by(checkpoint, run))}


def root_read_by(checkpoint: Checkpoint, run: str) -> str | None:
    """Where a run read its source from, by its report; None where it cannot be read."""
    try:
        report = json.loads(checkpoint.store.read(checkpoint.layout.run(run, "report.json")) or b"")
        return root_of(report["settings"]["source"]["uri"])
    except (ValueError, KeyError, TypeError):
        return None
