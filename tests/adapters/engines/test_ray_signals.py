"""A process that is in a Ray cluster has its own handlers of signals, and so afterwards."""

from __future__ import annotations

import os
import signal

import pytest

from tasks.adapters.engines.cluster_hosts.signal_handlers import TAKEN, handler_of
from tasks.adapters.engines.ray_engine import RayCluster
from tasks.domain.job.engine import RayEngineSettings
from tests.servers.ray import RayServer

pytestmark = pytest.mark.server
ADDRESS = 8  # bytes, of the function; what is behind it is not all defined


def addresses() -> list[bytes]:
    return [handler_of(number)[:ADDRESS] for number in TAKEN]


def test_signals_reach_the_handlers_of_the_process_within_a_cluster_and_after_it(ray_server: RayServer) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        ours = addresses()
        cluster = RayCluster(RayEngineSettings.model_validate(ray_server.engine()), run="r")
        try:
            assert addresses() == ours
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cluster.close()
        assert addresses() == ours
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    finally:
        signal.signal(signal.SIGTERM, before)
