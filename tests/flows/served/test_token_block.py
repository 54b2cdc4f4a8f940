"""The token of a server that encodes, from a Prefect Secret block: the server gets it, and nothing that a run leaves holds it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prefect.blocks.system import Secret

from tasks.domain.errors import BadInput
from tests.builders.engines.embedding_server import EmbeddingServer, embedding_server
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import write_rows
from tests.builders.memory_jobs import a_job
from tests.servers.prefect import PrefectServer

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
BLOCK = f"encoder-token-{secrets.token_hex(4)}"
WORD = f"canary{secrets.token_hex(12)}"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as server:
        server.token = WORD
        yield server


@pytest.fixture
def job(server: EmbeddingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.delenv("ENCODER_TOKEN", raising=False)
    for n in range(2):
        write_rows(tmp_path / "rows" / f"{n}.parquet", n * 50, (n + 1) * 50)
    return a_job(tmp_path, tmp_path, encoder=server.settings("tei", token_block=BLOCK))


def holding(word: str, *folders: Path) -> list[str]:
    """The files below some folders that hold a word; of a part also what it holds unpacked."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    unpacked = {path: str(pq.read_table(path).to_pylist()).encode() for path in files if path.suffix == ".parquet"}
    return [path.name for path in files if word.encode() in path.read_bytes() + unpacked.get(path, b"")]


def test_it_reaches_the_server_and_is_in_nothing_that_a_run_leaves(
    run_flow: RunFlow,
    server: EmbeddingServer,
    job: dict[str, Any],
    prefect_server: PrefectServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "kitestring")
    Secret(value=WORD).save(BLOCK, overwrite=True)
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["verified"]) == (100, True)
    assert len(server.texts) >= 100
    server.token = "another"
    with pytest.raises(BadInput, match=r"answers 401: .*encoder\.token_block") as refused:
        run_flow(job | {"encoder": job["encoder"] | {"revision": "2"}})
    assert WORD not in str(refused.value) + caplog.text
    assert holding(WORD, tmp_path, prefect_server.home) == []
    assert {"prefect.db"} & {name.removesuffix("-wal") for name in holding(BLOCK, prefect_server.home)}


def test_a_block_that_prefect_does_not_have_is_bad_input(run_flow: RunFlow, job: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"encoder\.token_block: Prefect has no Secret block 'nobody'"):
        run_flow(job | {"encoder": job["encoder"] | {"token_block": "nobody"}})
