"""What a kill costs: the parts that were not finished, and nothing else."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.builders.kitestring import Kitestring, make_job, workers_of, write_rows
from tests.builders.runs import keys_in, parts_in, until

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]
ROWS, SHARD, PART = 6_000, 1_500, 100


def test_kill_9_of_the_flow_costs_only_unfinished_parts(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    keys: list[str] = []
    for first in range(0, ROWS, SHARD):
        keys += write_rows(tmp_path / "rows" / f"{first}.parquet", first, first + SHARD)
    job = kitestring.job(make_job(tmp_path, tiny_model, shards__rows=SHARD, compute__unsaved_rows=2 * PART))
    run = kitestring.start("run", job)
    until(lambda: len(parts_in(tmp_path / "checkpoint")) > 5, run)
    processes = workers_of(run.pid)
    assert len(processes) >= 4  # guard, agent, two ranks
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    finished = parts_in(tmp_path / "checkpoint")
    assert len(finished) < ROWS // PART

    again = kitestring("run", job, "--json")
    assert again.code == 0, again.err
    rows = again.json["rows"]
    assert (rows["source"], rows["loaded"], rows["quarantined"]) == (ROWS, ROWS, 0)
    assert rows["reused"] == len(finished) * PART
    assert rows["embedded"] == ROWS - rows["reused"]
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(keys)
    assert set(finished) <= set(parts_in(tmp_path / "checkpoint"))


def test_kill_9_before_the_run_has_begun_leaves_no_process(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    """The encoder's agent is there before Prefect is imported."""
    write_rows(tmp_path / "rows" / "a.parquet", 0, 10)
    run = kitestring.start("run", kitestring.job(make_job(tmp_path, tiny_model)))
    until(lambda: any("tasks.worker.agent" in p.cmdline() for p in workers_of(run.pid)), run)
    processes = workers_of(run.pid)
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert not (tmp_path / "checkpoint").exists()


def test_kill_9_of_a_rank_ends_with_the_same_collection(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    keys = write_rows(tmp_path / "rows" / "a.parquet", 0, ROWS)
    job = kitestring.job(make_job(tmp_path, tiny_model, compute__unsaved_rows=2 * PART))
    run = kitestring.start("run", job, "--json")
    until(lambda: len(parts_in(tmp_path / "checkpoint")) > 5, run)
    [*_, rank] = [p for p in workers_of(run.pid) if p.name().startswith("ks-rank-")]
    rank.kill()
    out, err = run.communicate(timeout=240)
    assert run.returncode == 0, err
    assert '"quarantined": 0' in out
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(keys)
