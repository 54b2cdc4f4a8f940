"""Where only metadata changed the vector does not travel; whatever comes in between, each row is whole and its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.targets.memory_collection import MemoryCollection, memory_servers
from tasks.domain.errors import RunFailed, Transient
from tasks.domain.job.parse import parse_job
from tasks.run.seals.held_vectors import HeldVectors
from tasks.stages.verify import look_at_proof
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job
from tests.builders.memory_jobs import a_job
from tests.servers.merging_milvus import merging_process

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
ROWS = 30


def write(folder: Path, *, stock: int, edited: tuple[int, ...] = (), name: str = "a", keys: list[str] | None = None) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    keys = keys or [f"{name}{row}" for row in range(ROWS)]
    texts = [f"article {row} of {name}{' anew' * (row in edited)}" for row in range(len(keys))]
    table = pa.table({"id": keys, "text": texts, "stock": [stock] * len(keys)})
    pq.write_table(table, folder / "rows" / f"{name}.parquet")


def job_of(folder: Path, model: Path, **settings: Any) -> dict[str, Any]:
    return a_job(folder, model, source__metadata=["stock"], target__mode="mirror", **settings)


def rows_in(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    server = memory_servers[job["target"]["uri"]]
    return server.rows[server.aliases["rows"]]


def test_rows_whose_stock_changed_get_it_without_their_vectors_and_edited_ones_whole(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    with merging_process(tmp_path / "merging") as (uri, seen):
        job = make_job(tmp_path, tiny_model, source__metadata=["stock"], target__uri=uri, compute__processes=1)
        write(tmp_path, stock=1)
        assert "metadata_alone" not in run_flow(job)
        write(tmp_path, stock=2, edited=(3, 7))
        whole = len(seen.fields)
        result = run_flow(job)
        assert look_at_proof(parse_job(job), full=True).proved
    assert (result["rows"]["embedded"], result["rows"]["reused"], result["verified"]) == (2, ROWS - 2, True)
    assert result["metadata_alone"] == {"rows": ROWS - 2, "vector_bytes": (ROWS - 2) * 4 * 32}
    assert any(note.startswith("28 rows were sent without their vectors") for note in result["notes"])
    assert [("vector" in fields) for fields in seen.fields[whole:]] == [True, False]


def test_a_run_killed_after_the_fields_were_sent_is_taken_up_with_whole_rows(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, tiny_model, failures__retries=0)
    write(tmp_path, stock=1)
    run_flow(job)
    write(tmp_path, stock=2)
    with monkeypatch.context() as killed:

        def gone(*_: object) -> None:
            raise Transient("gone")

        killed.setattr(Ledger, "record_load", gone)
        with pytest.raises(RunFailed):
            run_flow(job)
    assert {row["stock"] for row in rows_in(job).values()} == {2}
    result = run_flow(job)
    assert (result["verified"], result.get("metadata_alone")) == (True, None)


def test_a_key_of_two_files_has_the_vector_of_its_owner_whoever_wrote_in_between(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is asked for, then another shard of the run overwrites it, then its fields alone are sent."""
    job, asked = job_of(tmp_path, tiny_model, failures__on_duplicate="first"), HeldVectors.of
    for stock in (1, 2):
        write(tmp_path, stock=stock)
        write(tmp_path, stock=stock, name="b", keys=["a5", "b1"])
        if stock == 1:
            run_flow(job)

    def late(self: HeldVectors, part: pa.Table) -> np.ndarray:
        found = asked(self, part)
        for row in rows_in(job).values():
            if row["id"] == "a5":
                row["vector"] = np.roll(row["vector"], 1)
        return found

    monkeypatch.setattr(HeldVectors, "of", late)
    result = run_flow(job)
    assert result["metadata_alone"]["rows"] > 0
    assert result["verified"]
    assert look_at_proof(parse_job(job), full=True).proved


def test_another_run_that_writes_meanwhile_has_rows_sent_again_whole(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, sent = job_of(tmp_path, tiny_model), MemoryCollection.upsert_fields
    write(tmp_path, stock=1)
    run_flow(job)
    write(tmp_path, stock=2)

    def beside(self: MemoryCollection, rows: pa.Table) -> int:
        """Another run puts a row of another text in, and says so in the ledger of the collection."""
        rows_in(job)["a5"]["vector"] = np.roll(rows_in(job)["a5"]["vector"], 1)
        entry = Ledger.read_load(*known[0], known[1])
        assert entry is not None
        known[0][0].intend_load(known[0][1], entry.model_copy(update={"shard": "f" * 32, "state": "outdated", "run": "other", "rows": 0}))
        return sent(self, rows)

    known: list[Any] = []
    look = HeldVectors._read
    monkeypatch.setattr(
        HeldVectors, "_read", lambda self, shard: (known.extend([(self._ledger, self._target), shard]), look(self, shard))[1]
    )
    monkeypatch.setattr(MemoryCollection, "upsert_fields", beside)
    result = run_flow(job)
    assert (result["verified"], result.get("metadata_alone")) == (True, None)
    assert any(note.startswith("another run was writing") for note in result["notes"])


def test_a_row_that_has_left_the_collection_is_sent_whole_and_no_half_row_is_made(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, asked = job_of(tmp_path, tiny_model), HeldVectors.of
    write(tmp_path, stock=1)
    run_flow(job)
    write(tmp_path, stock=2)
    monkeypatch.setattr(HeldVectors, "of", lambda self, part: (asked(self, part), rows_in(job).pop("a5", None))[0])
    result = run_flow(job)
    assert (result["verified"], len(rows_in(job)), result.get("metadata_alone")) == (True, ROWS, None)


def test_keys_that_an_older_version_kept_without_hashes_have_rows_sent_whole(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    job = job_of(tmp_path, tiny_model)
    write(tmp_path, stock=1)
    run_flow(job)
    for path in Path(job["checkpoint"]).glob("rows/*/shards/*/keys-*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(["id", "part"]), path)
    write(tmp_path, stock=2)
    result = run_flow(job)
    assert (result["verified"], result.get("metadata_alone"), result["rows"]["embedded"]) == (True, None, 0)
    write(tmp_path, stock=3)
    assert run_flow(job)["metadata_alone"]["rows"] == ROWS


def test_a_shard_that_the_proof_doubts_is_loaded_whole(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    job = job_of(tmp_path, tiny_model)
    write(tmp_path, stock=1)
    run_flow(job)
    row = rows_in(job)["a5"]
    row["vector"] = np.roll(row["vector"], 1)  # somebody else's hand
    write(tmp_path, stock=2)
    result = run_flow(job)  # the vector is not sent, the full proof finds it, and the repair sends it
    assert result["verified"]
    assert look_at_proof(parse_job(job), full=True).proved
