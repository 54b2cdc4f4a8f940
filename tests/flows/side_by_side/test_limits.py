"""One encoder at a time: on a host by a kernel lock, across hosts by a limit of Prefect's."""

from __future__ import annotations

import threading
import urllib.error
from pathlib import Path

import pytest

from tasks.adapters.processes.device_locks import Devices
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.servers.milvus import free_ports
from tests.servers.prefect import PrefectServer, start_server, stop_server

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]


@pytest.mark.usefixtures("no_process_left")
def test_a_run_waits_for_the_encoder_of_another_and_says_so(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 50)
    job = kitestring.job(make_job(tmp_path, tiny_model, compute__processes=1, compute__exclusive=True))
    held = Devices(["cpu"], corpus="somebody else's")
    assert held.take(lambda _: None, lambda: True)
    try:
        run = kitestring.start("run", job)
        overdue = threading.Timer(120, run.kill)
        overdue.start()
        assert run.stderr is not None
        said = next((line for line in run.stderr if "waiting for the encoder on cpu" in line), "it ended, or said nothing")
    finally:
        held.release()
    assert "has it for corpus 'somebody else's'" in said
    out, err = run.communicate(timeout=200)
    overdue.cancel()
    assert run.returncode == 0, err
    assert "50 of 50 rows are searchable, verified" in out


def test_a_slot_that_is_held_is_held_after_the_server_was_restarted(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    server = PrefectServer(api=f"http://127.0.0.1:{port}/api", home=tmp_path)
    slot = {"names": ["encoder"], "slots": 1, "mode": "concurrency", "lease_duration": 300}
    guard = start_server(server)
    try:
        server.request("/v2/concurrency_limits/", {"name": "encoder", "limit": 1})
        lease = server.request("/v2/concurrency_limits/increment-with-lease", slot)["lease_id"]
        stop_server(guard)
        guard = start_server(server)
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.request("/v2/concurrency_limits/increment-with-lease", slot)
        assert refused.value.code == 423
        server.request("/v2/concurrency_limits/decrement-with-lease", {"lease_id": lease})
        assert server.request("/v2/concurrency_limits/increment-with-lease", slot)["lease_id"]
    finally:
        stop_server(guard)
