"""Reads reports of earlier runs, as far as they are readable."""

from __future__ import annotations

import heapq
import json
from itertools import islice

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.files.access import root_of
from tasks.domain.report.figures import EarlierRun, earlier_run

SAMPLED = 100  # ledger entries whose runs' reports are read
REPORTS_TRIED = 3  # reports to try, since some may be damaged or of another version


def report_before(checkpoint: Checkpoint, run: str) -> EarlierRun | None:
    """Return the last reported run of this corpus and encoder before this one, or None; run ids sort by time."""
    folder, name = f"{checkpoint.layout.root}/runs/", "/report.json"
    keys = (stored.key for stored in checkpoint.store.list(folder) if stored.key.endswith(name))
    for key in heapq.nlargest(REPORTS_TRIED, (key for key in keys if key.removeprefix(folder).removesuffix(name) < run)):
        try:
            return earlier_run(json.loads(checkpoint.store.read(key) or b""))
        except ValueError:
            continue
    return None


def known_roots(checkpoint: Checkpoint, target: str) -> set[str]:
    """Return the roots that rows of a collection were read from; for collections older than recorded roots, from its runs' reports."""
    roots = checkpoint.roots(target)
    if roots:
        return roots
    runs = {entry.run for entry in islice(checkpoint.loads(target), SAMPLED)}
    return {root for run in runs if (root := root_read_by(checkpoint, run))}


def root_read_by(checkpoint: Checkpoint, run: str) -> str | None:
    """Return the root of a run's source from its report; None if the report cannot be read."""
    try:
        report = json.loads(checkpoint.store.read(checkpoint.layout.run(run, "report.json")) or b"")
        return root_of(report["settings"]["source"]["uri"])
    except (ValueError, KeyError, TypeError):
        return None
