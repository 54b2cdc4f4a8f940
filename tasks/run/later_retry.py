"""Retry of a deployed run by Prefect, some minutes later, if a service is down; a run at a terminal fails at once instead."""

from __future__ import annotations

import logging

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from tasks.domain.errors import NoAnswer, OutcomeUnknown, Transient

MOST_RETRIES = 3
PAUSE_BETWEEN_RUNS_SECONDS = 300
TEMPORARY_ERRORS = (NoAnswer, Transient, OutcomeUnknown)
log = logging.getLogger("kitestring.run")


def retry_later(error: Exception) -> bool:
    """Have Prefect retry the flow run if the error is temporary and the run belongs to a deployment. Returns whether it will be retried.

    Retries are set on this flow run, not on the flow: any other failure is final, on a later attempt as well.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return False
    temporary = isinstance(error, TEMPORARY_ERRORS)
    try:
        with get_client(sync_client=True) as client:
            current = client.read_flow_run(run.id)
            policy = {"retries": MOST_RETRIES if temporary else 0, "retry_delay": PAUSE_BETWEEN_RUNS_SECONDS}
            if temporary or current.empirical_policy.retries:
                client.update_flow_run(run.id, empirical_policy=current.empirical_policy.model_copy(update=policy))
    except (httpx.HTTPError, PrefectException) as failure:
        log.warning("the retry policy of the run could not be set: %s", failure)
        return False
    if retry := temporary and current.run_count <= MOST_RETRIES:
        log.warning("%s; retry %d of %d in %d s", error, current.run_count, MOST_RETRIES, PAUSE_BETWEEN_RUNS_SECONDS)
    return retry
