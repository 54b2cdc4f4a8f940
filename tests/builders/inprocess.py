"""The flows in this process, with the encoder in a thread of it: a run takes a second, and all but torchrun is real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_LEVEL, temporary_settings

from tasks.adapters.engines import torchrun_encoders
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.processes.coordinator import Coordinator
from tasks.adapters.processes.hardware import Launch
from tasks.domain.encoding.protocol import Assignment, Hello, NoMoreWork, Piece, Welcome
from tasks.domain.job.encoder import Encoder
from tasks.domain.job.parse import parse_job
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.pipeline.coordinator_client import CoordinatorClient
from tasks.worker.pipeline.rank import Rank
from tasks.worker.system.signals import ShutdownSignal
from tests.servers.prefect import PrefectServer

RunFlow = Callable[..., dict[str, Any]]


class _Deaf(ShutdownSignal):
    """Only a process of its own can take SIGTERM over."""

    def listen(self, wake: Callable[[], None] | None = None) -> None:
        self._wake = wake


class _PatientWire(CoordinatorClient):
    """A rank ends its process when the coordinator hangs up; this process is also the coordinator's."""

    def listen(self) -> Iterator[Piece | NoMoreWork | Welcome]:
        yield from super().listen()
        threading.Event().wait()


class ThreadRank:
    """What stands in for torchrun: one rank, a thread."""

    def __init__(self, launch: Launch, kind: str, assignment: Path, log: Path) -> None:
        log.touch()
        self._assignment = Assignment.model_validate_json(assignment.read_text())
        self._thread = threading.Thread(target=self._serve, daemon=True, name="thread-rank")
        self._thread.start()

    def _serve(self) -> None:
        assignment = self._assignment
        encoder = _loaded(assignment.encoder, assignment.model_path)
        wire = _PatientWire(assignment.socket)
        with suppress(ConnectionError):
            wire.send(Hello(rank=0, pid=0, facts=encoder.facts()))
            Rank(wire, encoder, open_store(assignment.store, proven=True), assignment, _Deaf()).work()
        wire.close()

    def wait(self) -> int:
        self._thread.join()
        return 0

    def end(self) -> None:
        """The thread ends with the socket, or with the tests."""


_loaded_encoders: dict[str, LoadedEncoder] = {}


def _loaded(encoder: Encoder, model_path: str) -> LoadedEncoder:
    known = f"{model_path}/{encoder.model_dump_json()}"
    if known not in _loaded_encoders:
        _loaded_encoders[known] = open_encoder(encoder, model_path=model_path, precision="float32")
    return _loaded_encoders[known]


@cache
def _flow(entrypoint: str) -> Any:
    module, function = entrypoint.rsplit(".", 1)
    return getattr(__import__(module, fromlist=[function]), function)


@contextmanager
def flows_in_process(server: PrefectServer) -> Iterator[RunFlow]:
    """What calls a flow with a job document, and raises what the flow raises."""
    settings = {PREFECT_API_URL: server.api, PREFECT_LOGGING_LEVEL: "CRITICAL", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}

    def run(document: dict[str, Any], entrypoint: str = "flows.embed.embed_corpus", **parameters: Any) -> dict[str, Any]:
        result: dict[str, Any] = _flow(entrypoint)(parse_job(document), **parameters)
        return result

    with temporary_settings(settings), patch.object(torchrun_encoders, "Coordinator", partial(Coordinator, start=ThreadRank)):
        yield run


@pytest.fixture
def run_flow(prefect_server: PrefectServer) -> Iterator[RunFlow]:
    """Flows in this process."""
    with flows_in_process(prefect_server) as run:
        yield run
