"""A whole job on a real Ray cluster: two hosts, each with ranks that torchrun starts, and one of them killed in the middle."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.builders.runs import keys_in
from tests.servers.ray import RayServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
FILES, ROWS = 16, 40


def kill_a_host(server: RayServer, checkpoint: Path, killed: list[int]) -> None:
    """As soon as there are seals: the newest actor."""
    deadline = time.monotonic() + 200
    while len(list(checkpoint.rglob("seal.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    raylets = [p for p in psutil.process_iter(["cmdline"]) if str(server.folder) in " ".join(p.info["cmdline"] or [])]
    actors = [child for raylet in raylets for child in raylet.children() if any("HostActor" in part for part in child.cmdline())]
    newest = max(actors, key=lambda actor: actor.create_time())
    ranks = newest.children(recursive=True)
    newest.kill()
    killed.append(newest.pid)
    assert not psutil.wait_procs(ranks, timeout=30)[1], "no rank outlives its host"


def test_a_host_that_is_killed_costs_nothing_and_nothing_is_doubled(
    run_flow: RunFlow, ray_server: RayServer, tmp_path: Path, tiny_model: Path
) -> None:
    keys = [key for n in range(FILES) for key in write_rows(tmp_path / "rows" / f"{n}.parquet", n * ROWS, (n + 1) * ROWS)]
    killed: list[int] = []
    killing = threading.Thread(target=kill_a_host, args=(ray_server, tmp_path / "checkpoint", killed), daemon=True)
    killing.start()
    result = run_flow(make_job(tmp_path, tiny_model, compute={"processes": 1, "engine": ray_server.engine(2)}))
    killing.join()
    assert killed
    assert result["verified"] is True
    rows = result["rows"]
    assert (rows["source"], rows["embedded"], rows["loaded"]) == (len(keys), len(keys), len(keys))
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(keys)
    report = json.loads(max((tmp_path / "checkpoint").glob("*/*/runs/*/report.json")).read_text())
    assert len({work["host"] for work in report["ranks"]}) == 2, "both have encoded"
