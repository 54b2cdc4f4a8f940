"""A deployed run that meets a service which is down, against a real Prefect server; the flow runs in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.domain.errors import BadInput, NoAnswer, RunFailed, Transient
from tasks.run import later_retry
from tasks.run.events import Events
from tests.servers.prefect import PrefectServer

pytestmark = pytest.mark.server
DOWN = NoAnswer("Milvus does not answer")


def attempts(server: PrefectServer, errors: list[Exception], *, deployed: bool = True) -> tuple[int, str]:
    """How often a flow was begun that fails so, one error for each try and the last for the others; the state that it ends in."""
    begun: list[Exception] = []

    @flow(name="meets-a-fault")
    def meets_a_fault() -> None:
        begun.append(errors[min(len(begun), len(errors) - 1)])
        with Events("rows").of_failure():
            raise begun[-1]

    with temporary_settings({PREFECT_API_URL: server.api}), get_client(sync_client=True) as client:
        run = _deployed_run(meets_a_fault) if deployed else None
        with pytest.raises(type(errors[-1])):
            run_flow(meets_a_fault, flow_run=run)
        ended = client.read_flow_run(run.id) if run else None
    return len(begun), ended.state_name or "" if ended else "Failed"


def _deployed_run(a_flow: Callable[[], None]) -> FlowRun:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(a_flow), name="nightly")  # type: ignore[arg-type]
        return client.create_flow_run_from_deployment(deployment)


@pytest.mark.parametrize(
    ("errors", "begun"),
    [
        ([DOWN], 1 + later_retry.MOST_RETRIES),
        ([Transient("no answer"), BadInput("no such column")], 2),
        ([DOWN, RunFailed("5 rows were quarantined", {})], 2),
        ([BadInput("no such column")], 1),
    ],
)
def test_a_deployed_run_is_tried_again_while_a_service_is_down_and_after_nothing_else(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch, errors: list[Exception], begun: int
) -> None:
    monkeypatch.setattr(later_retry, "PAUSE_BETWEEN_RUNS_SECONDS", 0)
    assert attempts(prefect_server, errors) == (begun, "Failed")


def test_a_command_is_told_at_once(prefect_server: PrefectServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "kitestring.run"):
        assert attempts(prefect_server, [DOWN], deployed=False) == (1, "Failed")
    assert not [record for record in caplog.records if record.name == "kitestring.run"]
