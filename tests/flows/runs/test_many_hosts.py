"""A whole job on a real cluster of Ray and of Dask: two hosts, each with ranks that torchrun starts, and one of them killed in the middle.

On Ray the hosts load what they have sealed, into a real server; on Dask the flow does, into Milvus Lite.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tests.builders.held_model import make_held_model
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import keys_in
from tests.servers.milvus import MilvusProcess
from tests.servers.ray import RayServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
FILES, ROWS = 16, 40
START_SECONDS = 200


class ClusterServer(Protocol):
    """What `tests.servers.ray` and `tests.servers.dask` have."""

    def engine(self, hosts: int) -> dict[str, object]: ...

    def hosts(self) -> list[psutil.Process]: ...


@pytest.fixture(params=["ray", "dask"])
def cluster_server(request: pytest.FixtureRequest) -> ClusterServer:
    server: ClusterServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def target(request: pytest.FixtureRequest, cluster_server: ClusterServer, tmp_path: Path) -> dict[str, str]:
    if not isinstance(cluster_server, RayServer):
        return {"uri": str(tmp_path / "rows.db"), "collection": "rows"}
    server: MilvusProcess = request.getfixturevalue("milvus_server")
    return {"uri": server.uri, "collection": f"hosts_{secrets.token_hex(4)}", "load_from": "hosts"}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Rows that each host has encoded, as the flow knows it."""
    rows: dict[str, int] = defaultdict(int)
    take_in = HostSeat.take_in

    def counted(seat: HostSeat, progress: EncodingProgress) -> None:
        take_in(seat, progress)
        rows[seat.name] = max(rows[seat.name], seat.progress.rows)

    monkeypatch.setattr(HostSeat, "take_in", counted)
    return rows


def kill_a_host(server: ClusterServer, both_have_encoded: Callable[[], bool], killed: list[int], held: Path) -> None:
    """The newest, when each has encoded a shard and holds the next."""
    deadline = time.monotonic() + START_SECONDS
    while not both_have_encoded() and time.monotonic() < deadline:
        time.sleep(0.05)
    newest = max(server.hosts(), key=lambda host: host.create_time())
    below = newest.children(recursive=True)
    newest.kill()
    held.unlink()
    killed.append(newest.pid)
    assert not psutil.wait_procs(below, timeout=30)[1], "no rank outlives its host"


def test_a_host_that_is_killed_costs_nothing_and_nothing_is_doubled(
    run_flow: RunFlow, cluster_server: ClusterServer, target: dict[str, str], encoded: dict[str, int], tmp_path: Path
) -> None:
    keys = [key for n in range(FILES) for key in write_rows(tmp_path / "rows" / f"{n}.parquet", n * ROWS, (n + 1) * ROWS)]
    model = make_held_model(tmp_path / "model", held := tmp_path / "held", rows=ROWS)
    killed: list[int] = []
    both = lambda: len([host for host, rows in list(encoded.items()) if rows >= ROWS]) == 2  # noqa: E731
    threading.Thread(target=kill_a_host, args=(cluster_server, both, killed, held), daemon=True, name="killer").start()
    engine = {"processes": 1, "engine": cluster_server.engine(2)}
    result = run_flow(make_job(tmp_path, model, compute=engine, target=target, encoder__trust_remote_code=True))
    assert killed
    assert result["verified"] is True
    rows = result["rows"]
    assert (rows["source"], rows["embedded"], rows["loaded"]) == (len(keys), len(keys), len(keys))
    assert sorted(keys_in(target["uri"], target["collection"])) == sorted(keys)
    report = json.loads(max((tmp_path / "checkpoint").glob("*/*/runs/*/report.json")).read_text())
    assert len({work["host"] for work in report["ranks"]}) == 2, "both have encoded"
    assert sum(host["loaded"] for host in report["hosts"]) == (len(keys) if target.get("load_from") else 0)
