"""Several flows load one collection at once, and none disturbs another."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.servers.milvus import MilvusProcess


@pytest.mark.server
@pytest.mark.timeout(300)
def test_two_corpora_fill_one_collection_at_once_and_both_are_proved(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, milvus_server: MilvusProcess
) -> None:
    name, jobs = f"shared_{uuid.uuid4().hex[:8]}", []
    for number, corpus in enumerate(("first", "second")):
        folder = tmp_path / corpus
        for file in range(6):
            first = 1_000 * number + 50 * file
            write_rows(folder / "rows" / f"{file}.parquet", first, first + 50)
        job = make_job(folder, tiny_model, corpus=corpus, shards__rows=50, checkpoint=str(tmp_path / "checkpoint"))
        assert run_flow(job)["verified"] is True
        jobs.append(job | {"target": {"uri": milvus_server.uri, "collection": name}})

    with ThreadPoolExecutor(len(jobs)) as flows:
        replays = [flows.submit(copy_context().run, run_flow, job, "flows.replay.replay_seals") for job in jobs]
        done = [replay.result(240) for replay in replays]
    assert [(each["verified"], each["rows"]["loaded"]) for each in done] == [(True, 300), (True, 300)]
    client = MilvusClient(milvus_server.uri)
    counted = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
    client.close()
    assert counted[0]["count(*)"] == 600
