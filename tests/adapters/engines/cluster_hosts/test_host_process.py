"""A host in a process of its own ends with whoever started it, and is on a Dask worker where the settings say."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.adapters.engines.cluster_hosts.host_process import UNCALLED_SECONDS, HostProcess
from tasks.adapters.engines.remote_host import own_identity
from tasks.domain.encoding.host_messages import HostAnswer, HostIdentity
from tasks.domain.errors import BadInput, Permanent, Transient
from tasks.domain.job.engine import DaskEngineSettings

dask_engine = pytest.importorskip("tasks.adapters.engines.dask_engine", reason="the extra `dask` is not installed", exc_type=ImportError)
DaskCluster = dask_engine.DaskCluster


def identify(host: HostProcess) -> HostIdentity:
    return HostIdentity.model_validate(HostAnswer.model_validate_json(host.call("identify").result(60)).value)


def test_a_host_process_answers_ends_when_its_pipe_breaks_and_fails_what_was_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # it finds the code wherever the engine's process is
    lost, ended = HostProcess(), HostProcess()
    assert identify(lost) == own_identity()
    with pytest.raises(RuntimeError, match="no attribute 'no_such_call'; please report this"):
        lost.call("no_such_call").result(30)
    with socket.socket(fileno=os.dup(lost._pipe.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_RDWR)  # as the kernel does when the engine's process is gone
    assert lost._process.wait(UNCALLED_SECONDS / 2) == 0, "it does not wait until nobody has called"
    ended.end()
    with pytest.raises(ConnectionError, match="the host's process has ended"):
        ended.call("identify").result(30)


def test_a_host_process_that_is_told_to_leave_ends_by_itself() -> None:
    host = HostProcess()
    identify(host)
    host.call("close").result(30)
    host.leave()
    assert host._process.returncode == 0, "not killed"
    host.end()


def workers(*resources: dict[str, float], host: str | None = None) -> dict[str, dict[str, Any]]:
    return {f"tcp://{n}": {"host": host or f"10.0.0.{n}", "resources": has} for n, has in enumerate(resources)}


@pytest.mark.parametrize(
    ("settings", "there", "chosen"),
    [
        ({}, workers({}, {}, {}), [0, 1, 2]),
        ({}, workers({}, {}, host="10.0.0.1"), [0]),
        ({"worker_resources": {"host": 1}}, workers({"host": 1}, {}, {"host": 2}, host="10.0.0.1"), [0, 2]),
        ({"hosts": 1}, workers({}, {}), [0]),
        ({"hosts": 2, "worker_resources": {"GPU": 4}}, workers({"GPU": 1}), []),
    ],
)
def test_one_worker_of_each_machine_has_a_host_or_each_that_has_what_is_asked(
    settings: dict[str, Any], there: dict[str, dict[str, Any]], chosen: list[int]
) -> None:
    cluster: Any = SimpleNamespace(_settings=DaskEngineSettings(**settings), _hosts={})
    assert DaskCluster._addresses(cluster, there) == [f"tcp://{n}" for n in chosen]


def test_a_worker_that_has_a_host_keeps_it_when_others_come() -> None:
    cluster: Any = SimpleNamespace(_settings=DaskEngineSettings(hosts=1), _hosts={"tcp://1": object()})
    assert DaskCluster._addresses(cluster, workers({}, {}, {})) == ["tcp://1"]
    cluster = SimpleNamespace(_settings=DaskEngineSettings(), _hosts={"tcp://1": object()})
    assert DaskCluster._addresses(cluster, workers({}, {}, host="10.0.0.1")) == ["tcp://1"]


def test_a_scheduler_that_is_not_there_is_refused_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.adapters.engines.dask_engine.SCHEDULER_SECONDS", 0.5)
    with pytest.raises(BadInput, match=r"^compute.engine.scheduler 'tcp://127.0.0.1:9': no Dask scheduler can be reached"):
        DaskCluster(DaskEngineSettings(scheduler="tcp://127.0.0.1:9"), run="r")
    with pytest.raises(BadInput, match=r"DASK_SCHEDULER_ADDRESS is not set"):
        DaskCluster(DaskEngineSettings(), run="r")


def test_a_scheduler_that_stays_away_is_looked_for_and_ends_the_run_in_the_end() -> None:
    def connect() -> None:
        raise OSError("nobody there")

    cluster: Any = SimpleNamespace(client=SimpleNamespace(status="closed"), _connect=connect, _leave=lambda: None, _missed=0.0)
    with pytest.raises(Transient, match="does not answer: OSError: nobody there"):
        DaskCluster._workers(cluster)
    cluster._missed -= dask_engine.GIVEN_UP_SECONDS
    with pytest.raises(Permanent, match=r"has not answered for 120 s .* run the job again"):
        DaskCluster._workers(cluster)
