"""Following a run that is under way in another process, or on another machine."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.object_store.registry import open_store
from tasks.domain.job.job import Job
from tasks.domain.progress.live_run import LiveRun

WATCH_SECONDS = 1.0  # between two looks: a run writes every two seconds at most

Told = Callable[[LiveRun], None]


def run_under_way(job: Job, *, now: dt.datetime | None = None) -> LiveRun | None:
    """The newest run of the corpus that is under way by what it tells in the checkpoint; None: there is none, or it has fallen silent."""
    now = now or dt.datetime.now(dt.UTC)
    runs = LiveRuns(open_store(job.checkpoint), job.corpus).newest()
    return next((run for run in runs if run.state == "running" and not run.is_silent(now)), None)


def follow_run(job: Job, told: Told, *, every: float = WATCH_SECONDS) -> LiveRun | None:
    """Tell of the newest run that is under way, again and again, until it ends.

    Args:
        job: whose corpus.
        told: called at each change.
        every: seconds between two looks.

    Returns:
        How it ended: its last word, which says `running` where it has fallen silent; None: no run is under way.
    """
    runs, last = LiveRuns(open_store(job.checkpoint), job.corpus), run_under_way(job)
    while last and last.state == "running" and not last.is_silent(dt.datetime.now(dt.UTC)):
        told(last)
        time.sleep(every)
        last = runs.read(last.run) or last
    return last
