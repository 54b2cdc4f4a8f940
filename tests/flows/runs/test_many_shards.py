"""Many shards in one run: few tasks, one table, and a second run that reads each seal and its ledger entry once, and does no more for a shard.

Calls are counted, and seconds are not: what they come to is in tests/benchmarks.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tasks.adapters.object_store.memory_store import MemoryStore
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, write_rows
from tests.servers.prefect import PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
SHARDS, ROWS = 300, 2
KINDS = {
    "seals": r"/shards/[^/]+/seal\.json",
    "amendments": r"/shards/[^/]+/amend-",
    "parts": r"/shards/[^/]+/[^/]+/part-",
    "keys": r"/shards/[^/]+/keys-",
    "ledger": r"/loads/[^/]+/[0-9a-f]{32}\.json",
}


@dataclass(slots=True)
class Calls:
    """What a store was asked for: reads by kind of object, and listings."""

    reads: Counter[str] = field(default_factory=Counter)
    lists: int = 0

    @classmethod
    def counting(cls) -> Any:
        """Count within."""
        calls, read, listing = cls(), MemoryStore.read, MemoryStore.list

        def counted_read(store: MemoryStore, key: str) -> bytes | None:
            calls.reads[next((kind for kind, pattern in KINDS.items() if re.search(pattern, key)), "other")] += 1
            return read(store, key)

        def counted_list(store: MemoryStore, prefix: str) -> Iterator[Any]:
            calls.lists += 1
            return listing(store, prefix)

        return patch.multiple(MemoryStore, read=counted_read, list=counted_list), calls


def tasks_of(server: PrefectServer, corpus: str, runs: int) -> list[Counter[str]]:
    """By run of a corpus, the oldest first: its tasks by the first word of their names, when the server knows the last one of each."""
    named = {"flow_runs": {"name": {"like_": f"{corpus} "}}, "sort": "START_TIME_ASC"}
    deadline = time.monotonic() + 60
    while True:
        found = []
        for run in server.request("/flow_runs/filter", named):
            of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200}
            found.append(Counter(re.split("[ -]", task["name"])[0] for task in server.request("/task_runs/filter", of_run)))
        if len(found) == runs and all(tasks["report"] for tasks in found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    for number in range(SHARDS):
        write_rows(tmp_path / "rows" / f"{number:03}.parquet", number * ROWS, (number + 1) * ROWS)
    name = secrets.token_hex(4)
    where = {"checkpoint": f"memory://{name}", "target__uri": f"memory://{name}", "corpus": f"many-{name}"}
    return make_job(tmp_path, tiny_model, compute__processes=1, **where)


def test_many_small_shards_are_few_tasks_and_again_none(run_flow: RunFlow, job: dict[str, Any], prefect_server: PrefectServer) -> None:
    first = run_flow(job)
    assert first["shards"] == {"planned": SHARDS, "sealed": SHARDS, "loaded": SHARDS, "failed": 0}

    patched, calls = Calls.counting()
    with patched:
        again = run_flow(job)
    assert again["rows"]["reused"] == SHARDS * ROWS
    assert again["verified"] is True
    assert calls.reads["seals"] == SHARDS
    assert calls.reads["parts"] <= SHARDS + 50  # each row is in the proof's sample
    assert {kind: calls.reads[kind] for kind in ("amendments", "keys", "ledger")} == {"amendments": 0, "keys": 0, "ledger": SHARDS}
    assert calls.reads["other"] < 50
    assert calls.lists < 25

    did, did_again = tasks_of(prefect_server, job["corpus"], 2)
    assert did["encode"] == did["load"] < 32
    assert not did_again.keys() & {"encode", "load"}

    wanted = {"artifacts": {"key": {"any_": [f"shards-{job['corpus']}"]}}, "sort": "CREATED_DESC"}
    newer, older = prefect_server.request("/artifacts/filter", wanted)  # one of each run, changed in place
    assert f'"complete before this run", "shards": "{SHARDS}"' in newer["data"]
    assert f'"sealed by this run", "shards": "{SHARDS}"' in older["data"]
