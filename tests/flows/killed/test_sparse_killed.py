"""Sparse vectors of chunks, made by torchrun's ranks: what a killed flow and a killed rank leave is taken over."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.builders.kitestring import Kitestring, workers_of
from tests.builders.runs import keys_in, parts_in, until
from tests.builders.worker.sparse_model import make_tiny_splade
from tests.flows.changed_sources.documents import chunks, job_of, words, write_documents

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]
DOCUMENTS, CHUNKS, PART = 600, 3, 30


def test_kill_9_of_the_flow_and_of_a_rank_cost_unfinished_parts_alone(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    write_documents(tmp_path / "docs" / "a.jsonl", {f"d{n}": words(14 * CHUNKS, n) for n in range(DOCUMENTS)})
    encoder = {"kind": "sparse", "model": str(make_tiny_splade(tiny_model, tmp_path))}
    job = kitestring.job(job_of(tmp_path, tiny_model, encoder=encoder, compute__unsaved_rows=2 * PART, target__store_text=False))
    checkpoint = tmp_path / "checkpoint"
    run = kitestring.start("run", job)
    until(lambda: len(parts_in(checkpoint)) > 5, run)
    processes = workers_of(run.pid)
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(processes, timeout=10)[1]
    finished = parts_in(checkpoint)

    again = kitestring.start("run", job, "--json")
    until(lambda: len(parts_in(checkpoint)) > len(finished) + 5, again)
    ranks = [process for process in workers_of(again.pid) if process.name().startswith("ks-rank-")]
    assert len(ranks) == 2
    ranks[-1].kill()
    out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    rows = json.loads(out)["rows"]
    assert (rows["source"], rows["loaded"], rows["quarantined"]) == (DOCUMENTS, DOCUMENTS, 0)
    assert rows["reused"] == len(finished) * PART // CHUNKS
    assert set(finished) <= set(parts_in(checkpoint))
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(key for n in range(DOCUMENTS) for key in chunks(f"d{n}", CHUNKS))
    assert kitestring.here("verify", job, "--full").code == 0
