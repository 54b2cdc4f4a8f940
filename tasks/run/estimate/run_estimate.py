"""The estimate of a run, made in a thread while the run begins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Container
from concurrent.futures import Future
from contextvars import copy_context

from tasks.adapters.sources.sampling import Effort
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.estimate.formatting import estimate_headline
from tasks.domain.job.credentials import without_credentials
from tasks.domain.shards.resume import missing
from tasks.run.context import Run
from tasks.run.estimate.estimator import Estimator
from tasks.run.plan import Plan

PATIENCE = 10.0  # seconds that a report waits for the estimate of its run
log = logging.getLogger("kitestring.run")


def start_estimate(run: Run, plan: Plan, done: Container[str]) -> None:
    """Estimate a run in a thread while it begins, for its log and its report. If that fails, the run continues without an estimate.

    Args:
        run: receives the estimate as `run.estimate`.
        plan: of the run.
        done: shards that are loaded; if all are, there is nothing to estimate.
    """
    if next(missing(plan, done), None) is None:
        return
    run.estimate = Future()
    threading.Thread(target=copy_context().run, args=(_estimate, run, plan, run.estimate), daemon=True, name="estimate").start()


def _estimate(run: Run, plan: Plan, result: Future[Estimate | None]) -> None:
    estimate = None
    try:
        estimate = Estimator(run.inspected, plan.spool, plan, Effort(bytes=8 << 20, seconds=3.0)).estimate()
        run.journal.note_estimate(estimate.rows_to_load.expected)
        log.info("expected: %s", estimate_headline(estimate))
    except Exception as error:  # noqa: BLE001 - the run does not need an estimate
        log.warning("the time and size of this run could not be estimated: %s", without_credentials(str(error)))
    result.set_result(estimate)


def finished_estimate(run: Run) -> Estimate | None:
    """The estimate that was started with the run; None if there is none, or it is not finished after 10 seconds."""
    try:
        return run.estimate.result(PATIENCE) if run.estimate else None
    except TimeoutError:
        return None
