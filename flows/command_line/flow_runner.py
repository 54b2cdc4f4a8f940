"""Runs a flow from the command line, with the user's Prefect server or a private one for the duration."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib import import_module
from typing import Any

from tasks.adapters.prefect.api_settings import configured_api
from tasks.adapters.prefect.private_server import private_server
from tasks.adapters.processes.gc_control import importing
from tasks.adapters.processes.prestart import early_launch
from tasks.adapters.processes.process_mark import this_process
from tasks.domain.errors import BadInput
from tasks.domain.job.job import Job

# The terminal shows Kitestring's own progress; Prefect's log lines still go to its server.
# Kitestring's log lines go to the run's log there, as in a deployed run.
QUIET = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "kitestring",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FLOW_RUNS_LEVEL": "CRITICAL",
}


def _inspect(job: Job) -> None:
    """Report a wrong job while the server starts, instead of afterwards. Every flow checks again."""
    from tasks.run.preflight import inspect_job  # noqa: PLC0415 - imports Prefect

    inspect_job(job)


@contextmanager
def _timed_from_the_command() -> Iterator[None]:
    """Count the run's time from the start of this process, since when the encoder has been loading."""
    from tasks.run.context import COMMAND_BEGAN  # noqa: PLC0415 - imports Prefect

    token = COMMAND_BEGAN.set(dt.datetime.fromtimestamp(this_process().started, dt.UTC))
    try:
        yield
    finally:
        COMMAND_BEGAN.reset(token)


def run_flow(entrypoint: str, job: Job, *, encodes: bool = False, **parameters: object) -> dict[str, Any]:
    """Call a flow (`module.function`) with a job and other parameters. Imports Prefect only here, because it needs its server's address.

    Args:
        entrypoint: the flow.
        job: the first parameter.
        encodes: whether the flow encodes first: then the encoder's processes may start while Prefect starts.
        parameters: the other parameters.

    Raises:
        KitestringError: the flow's error.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    with ExitStack() as stack:
        api = configured_api()
        server = None if api else stack.enter_context(private_server())
        if encodes:
            stack.enter_context(early_launch(job))
        module, function = entrypoint.rsplit(".", 1)
        with importing():
            flow = getattr(import_module(module), function)
        if api is not None:
            _check_api(api)
        if server is not None:
            _inspect(job)
            _import_ahead()
            server.wait()
        with _without_heartbeats() if server is not None else nullcontext(), _timed_from_the_command():
            result: dict[str, Any] = flow(job, **parameters)
        return result


def _check_api(api: str) -> None:
    """Check the user's Prefect server; without this check Prefect would end in a traceback.

    Raises:
        BadInput: the server does not answer, or denies access.
    """
    import httpx  # noqa: PLC0415 - Prefect has imported it
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    try:
        with get_client(sync_client=True) as client:
            client.read_flows(limit=1)
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect's comparison of versions wraps the cause in a RuntimeError
        cause = error.__cause__ or error
        status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
        if status in {401, 403}:
            cure = "set PREFECT_API_AUTH_STRING, or for Prefect Cloud PREFECT_API_KEY"
            raise BadInput(f"the Prefect server at {api} denies access to this command ({status}): {cure}") from None
        reason = cause if isinstance(cause, RuntimeError) else f"{type(cause).__name__}: {cause}".rstrip(": ")
        cure = "start it, or unset PREFECT_API_URL: then the command starts a private server"
        raise BadInput(f"the Prefect server at {api} cannot be used ({reason}): {cure}") from None


def _import_ahead() -> None:
    """Import modules that are needed later, while the server starts, which takes longer."""
    with importing():
        import_module("prefect.utilities.visualization")  # Prefect imports it when a flow is called


def _without_heartbeats() -> AbstractContextManager[object]:
    """Disable heartbeats: a private server does not monitor the run, and the heartbeat thread delays its end by up to a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
