"""The server is killed and comes back, at every stage that writes to it: the run, or the next one, ends right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.domain.errors import RunFailed
from tasks.run.seals import shard_loading
from tasks.stages import bulk_import
from tests.builders.inprocess import RunFlow, flows_in_process
from tests.builders.kitestring import make_job, write_rows
from tests.servers.milvus import MilvusProcess, milvus_process
from tests.servers.prefect import PrefectServer

ROWS, REPLAY = 400, "flows.replay.replay_seals"
pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, prefect_server: PrefectServer) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sealed")
    for first in range(0, ROWS, 100):
        write_rows(folder / "rows" / f"{first}.parquet", first, first + 100)
    document = make_job(folder, tiny_model, shards__rows=100)
    with flows_in_process(prefect_server) as run:
        run(document)
    return document


@pytest.fixture(scope="module")
def mortal() -> Iterator[MilvusProcess]:
    with milvus_process() as server:
        yield server


def dying_at(server: MilvusProcess, original: Callable[..., Any], call: int) -> Callable[..., Any]:
    """What the original does, after a kill -9 of the server at its n-th call; a new one is being started then."""
    calls: list[int] = []
    lock = threading.Lock()

    def dies(*given: Any, **how: Any) -> Any:
        with lock:
            calls.append(1)
            now = len(calls) == call
        if now:
            server.kill()
            threading.Thread(target=server.start).start()
        return original(*given, **how)

    return dies


@pytest.mark.parametrize(
    ("stage", "place", "name", "call"),
    [
        ("load", shard_loading, "load_part", 2),
        ("import", bulk_import, "_await", 1),
        ("import and ledger", bulk_import, "_enter", 1),
        ("alias", MilvusTarget, "_point", 1),
    ],
)
def test_every_row_is_there_once_and_searches_find_it(
    sealed: dict[str, Any],
    mortal: MilvusProcess,
    run_flow: RunFlow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    place: Any,
    name: str,
    call: int,
) -> None:
    alias = f"dies_{name.strip('_')}"
    how = {"load": "import", "staging": str(tmp_path / "staging")} if "import" in stage else {"load": "upsert"}
    document = {**sealed, "target": {"uri": mortal.uri, "collection": alias, **how}}
    with monkeypatch.context() as patch:
        patch.setattr(place, name, dying_at(mortal, getattr(place, name), call))
        try:
            run_flow(document, REPLAY)
        except RunFailed:
            run_flow(document, REPLAY)
    done = run_flow(document, REPLAY)
    assert (done["verified"], done["rows"]["loaded"], done["shards"]["failed"]) == (True, ROWS, 0)
    client = MilvusClient(mortal.uri)
    found = client.query(alias, filter='id != ""', output_fields=["id"], consistency_level="Strong", limit=10 * ROWS)
    assert sorted(row["id"] for row in found) == sorted(f"row-{row}" for row in range(ROWS))
    assert [c for c in client.list_collections() if c.startswith(alias)] == [client.describe_alias(alias)["collection_name"]]
    client.close()
