"""Who looks beside a run, and what it may say."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import tasks.stages.verify
from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.targets.memory_collection import MemoryCollection
from tasks.commands.inspect import look_at_status
from tasks.domain.job.parse import parse_job
from tasks.stages.verify import look_at_proof
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import write_rows
from tests.builders.memory_jobs import a_job, keys_in
from tests.builders.runs import ids

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_who_verifies_beside_a_run_doubts_nothing_that_was_loaded_meanwhile(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 10)
    job = a_job(tmp_path, tiny_model)
    run_flow(job)
    write_rows(tmp_path / "rows" / "b.parquet", 10, 20)
    sending, counted, loaded, looked = (threading.Event() for _ in range(4))
    upsert, record, prove = MemoryCollection.upsert, Ledger.record_load, tasks.stages.verify.prove

    def upsert_late(self: MemoryCollection, rows: Any) -> int:
        sending.set()
        assert counted.wait(60)
        return upsert(self, rows)

    def record_early(self: Ledger, *given: Any) -> None:
        record(self, *given)
        loaded.set()
        assert looked.wait(60)

    def prove_late(*given: Any, **named: Any) -> Any:
        proof = prove(*given, **named)
        if threading.current_thread() is reader:
            counted.set()
            assert loaded.wait(60)
        return proof

    said: list[bool] = []

    def look() -> None:
        assert sending.wait(60)
        said.append(look_at_proof(parse_job(job)).proved)
        looked.set()

    monkeypatch.setattr(MemoryCollection, "upsert", upsert_late)
    monkeypatch.setattr(Ledger, "record_load", record_early)
    monkeypatch.setattr(tasks.stages.verify, "prove", prove_late)
    reader = threading.Thread(target=look, daemon=True)
    reader.start()
    result = run_flow(job)
    reader.join(60)
    assert said == [False]
    assert (result["verified"], keys_in(job)) == (True, sorted(ids(0, 20)))
    assert look_at_status(parse_job(job)).complete
