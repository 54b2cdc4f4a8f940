"""Follow a run in progress of another process or machine."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from tasks.adapters.checkpoint.live_runs import LiveRuns
from tasks.adapters.object_store.registry import open_store
from tasks.domain.job.job import Job
from tasks.domain.progress.live_run import LiveRun

WATCH_SECONDS = 1.0  # between two reads: a run writes every two seconds at most


def run_under_way(job: Job, *, now: dt.datetime | None = None) -> LiveRun | None:
    """The newest run of the corpus in progress, by its document in the checkpoint; None if there is none or it stopped writing."""
    now = now or dt.datetime.now(dt.UTC)
    runs = LiveRuns(open_store(job.checkpoint), job.corpus).newest()
    return next((run for run in runs if run.state == "running" and not run.is_silent(now)), None)


def follow_run(job: Job, show: Callable[[LiveRun], None], *, every: float = WATCH_SECONDS) -> LiveRun | None:
    """Show the newest run in progress repeatedly until it ends.

    Args:
        job: names the corpus.
        show: called with every read.
        every: seconds between two reads.

    Returns:
        The last document of the run, with state `running` if it stopped writing; None if no run is in progress.
    """
    runs, last = LiveRuns(open_store(job.checkpoint), job.corpus), run_under_way(job)
    while last and last.state == "running" and not last.is_silent(dt.datetime.now(dt.UTC)):
        show(last)
        time.sleep(every)
        last = runs.read(last.run) or last
    return last
