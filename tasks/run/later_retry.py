"""A deployed run that meets a service which is down is tried again later, by Prefect; a person at a terminal is told at once."""

from __future__ import annotations

import logging

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from tasks.domain.errors import NoAnswer, OutcomeUnknown, Transient

MOST_RETRIES = 3
PAUSE_BETWEEN_RUNS_SECONDS = 300
PASSING = (NoAnswer, Transient, OutcomeUnknown)
log = logging.getLogger("kitestring.run")


def retry_later(error: Exception) -> bool:
    """Have Prefect start the flow again where the error may pass and the run is a deployment's; whether it will.

    The retries are this flow run's and not the flow's own: any other failure is final, also one of a later try.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return False
    passing = isinstance(error, PASSING)
    try:
        with get_client(sync_client=True) as client:
            now = client.read_flow_run(run.id)
            policy = {"retries": MOST_RETRIES if passing else 0, "retry_delay": PAUSE_BETWEEN_RUNS_SECONDS}
            if passing or now.empirical_policy.retries:
                client.update_flow_run(run.id, empirical_policy=now.empirical_policy.model_copy(update=policy))
    except (httpx.HTTPError, PrefectException) as failure:
        log.warning("whether the run is tried again could not be set: %s", failure)
        return False
    if again := passing and now.run_count <= MOST_RETRIES:
        log.warning("%s; retry %d of %d in %d s", error, now.run_count, MOST_RETRIES, PAUSE_BETWEEN_RUNS_SECONDS)
    return again
