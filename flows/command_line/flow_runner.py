"""Running a flow from the command line: with the user's Prefect server, or with one of its own for the time."""

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

# Whoever watches the terminal sees Kitestring's own progress; Prefect's log lines go to its server all the same.
# Kitestring's own lines go to the run's log there, as those of a deployed run do.
QUIET = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "kitestring",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FLOW_RUNS_LEVEL": "CRITICAL",
}


def _look_at(job: Job) -> None:
    """Report a wrong job while the server starts, not after; the flow checks again, as every flow does."""
    from tasks.run.preflight import inspect_job  # noqa: PLC0415  it imports Prefect

    inspect_job(job)


@contextmanager
def _timed_from_the_command() -> Iterator[None]:
    """The run's time counts from the start of this process: the encoder has been loading since."""
    from tasks.run.context import COMMAND_BEGAN  # noqa: PLC0415  it imports Prefect

    token = COMMAND_BEGAN.set(dt.datetime.fromtimestamp(this_process().started, dt.UTC))
    try:
        yield
    finally:
        COMMAND_BEGAN.reset(token)


def run_flow(entrypoint: str, job: Job, *, encodes: bool = False, **parameters: object) -> dict[str, Any]:
    """Call a flow (`module.function`) with a job and its other parameters. Prefect is imported here and no earlier: it has to find its server.

    Args:
        entrypoint: the flow.
        job: its first parameter.
        encodes: whether it begins with encoding: the encoder's processes may then be started while Prefect is.
        parameters: its others.

    Raises:
        KitestringError: what the flow raised.
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
            _refuse_silent(api)
        if server is not None:
            _look_at(job)
            _import_what_comes_last()
            server.wait()
        with _without_heartbeats() if server is not None else nullcontext(), _timed_from_the_command():
            result: dict[str, Any] = flow(job, **parameters)
        return result


def _refuse_silent(api: str) -> None:
    """Prefect would end in a traceback.

    Raises:
        BadInput: the server that the user has named does not answer, or does not let us in.
    """
    import httpx  # noqa: PLC0415  Prefect has imported it
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    try:
        with get_client(sync_client=True) as client:
            client.read_flows(limit=1)
    except (httpx.HTTPError, RuntimeError) as error:  # a RuntimeError names the cause where versions are compared first
        cause = error.__cause__ or error
        status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
        if status in {401, 403}:
            cure = "set PREFECT_API_AUTH_STRING, or for Prefect Cloud PREFECT_API_KEY"
            raise BadInput(f"the Prefect server at {api} does not let this command in ({status}): {cure}") from None
        why = cause if isinstance(cause, RuntimeError) else f"{type(cause).__name__}: {cause}".rstrip(": ")
        cure = "start it, or unset PREFECT_API_URL: a command brings a server of its own then"
        raise BadInput(f"the Prefect server at {api} cannot be used ({why}): {cure}") from None


def _import_what_comes_last() -> None:
    """What is wanted late takes a while to import: the server takes longer than that to start."""
    with importing():
        import_module("prefect.utilities.visualization")  # Prefect does, when a flow is called


def _without_heartbeats() -> AbstractContextManager[object]:
    """A server that ends with the run does not watch over it; the thread that beats for it keeps the run for up to a second."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: PLC0415

    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
