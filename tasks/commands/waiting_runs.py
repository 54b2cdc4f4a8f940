"""Unfinished runs of a corpus at a Prefect server, which may not have begun: late, waiting for a worker, paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.adapters.prefect.api_settings import configured_api

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

MOST = 5
SECONDS = 10.0


def runs_at_prefect(corpus: str) -> list[str]:
    """A line for each unfinished run of the corpus, the next first; none without a server; an error line if it does not answer."""
    if configured_api() is None:
        return []
    import httpx  # noqa: PLC0415  Prefect takes seconds
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType  # noqa: PLC0415
    from prefect.client.schemas.objects import StateType  # noqa: PLC0415
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    open_states = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=open_states)))
    try:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(flow_run_filter=unfinished, sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    except (httpx.HTTPError, RuntimeError) as error:
        return [f"the Prefect server at {configured_api()} does not answer: {error}"]
    return [_line(run) for run in runs if _is_of(run, corpus)][:MOST]


def _is_of(run: FlowRun, corpus: str) -> bool:
    """Whether a run is of the corpus, by its parameters or its name: by default a run is named after its corpus (`flows.run_names`)."""
    job = run.parameters.get("job")
    return (isinstance(job, dict) and job.get("corpus") == corpus) or run.name.split(" ")[0] == corpus


def _line(run: FlowRun) -> str:
    state = run.state.name if run.state else "unknown"
    due = f", due {run.expected_start_time:%Y-%m-%d %H:%M:%S} UTC" if run.expected_start_time and not run.start_time else ""
    pool = f", work pool '{run.work_pool_name}'" if run.work_pool_name else ""
    return f"Prefect has run '{run.name}': {state}{due}{pool}"
