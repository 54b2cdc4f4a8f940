"""A key in two files has one owner, in the source's order, whichever was loaded first; the rest counts as duplicate."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.domain.errors import RunFailed, Transient
from tasks.stages import deduplicate
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job
from tests.chaos.mirror import rows_in
from tests.servers.milvus import MilvusProcess

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
Rows = dict[str, str]
A: Rows = {"one": "the one", "two": "a two", "both": "as it is in a"}
B: Rows = {"three": "that three", "both": "as it was in b", "four": "to be four"}


def write(folder: Path, name: str, rows: Rows) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": list(rows), "text": list(rows.values())}), folder / "rows" / f"{name}.parquet")


def job_of(folder: Path, model: Path, policy: str, **settings: Any) -> dict[str, Any]:
    return make_job(folder, model, failures__on_duplicate=policy, target__mode="mirror", **settings)


def found(job: dict[str, Any]) -> Rows:
    return rows_in(job["target"]["uri"], job["target"]["collection"])


@pytest.mark.parametrize(("policy", "earlier", "owner"), [("first", "a", A), ("first", "b", A), ("last", "a", B), ("last", "b", B)])
def test_the_owner_is_the_same_whichever_file_was_loaded_first(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, policy: str, earlier: str, owner: Rows
) -> None:
    files, job = {"a": A, "b": B}, job_of(tmp_path, tiny_model, policy)
    write(tmp_path, earlier, files[earlier])
    run_flow(job)
    for name in files.keys() - {earlier}:
        write(tmp_path, name, files[name])
    result = run_flow(job)
    assert found(job) == A | B | {"both": owner["both"]}
    assert result["rows"] == {"source": 6, "embedded": 3 if owner is not files[earlier] else 2} | {
        "reused": 2 if owner is not files[earlier] else 3,
        "duplicates": 1,
        "quarantined": 0,
        "loaded": 5,
        "removed": 0,
    }
    assert result["verified"] is True


def test_a_server_that_lags_is_waited_for_before_it_is_asked_who_holds_a_key(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []

    def noted(name: str) -> None:
        original = getattr(MilvusCollection, name)
        monkeypatch.setattr(MilvusCollection, name, lambda *given: (called.append(name), original(*given))[1])

    noted("flush_and_index")
    noted("shards_of")
    for name, rows in (("a", A), ("b", B)):
        write(tmp_path, name, rows)
    run_flow(job_of(tmp_path, tiny_model, "first"))
    assert called[:2] == ["flush_and_index", "shards_of"]


def test_when_the_owner_goes_the_next_one_has_the_key(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    job = job_of(tmp_path, tiny_model, "first")
    for name, rows in (("a", A), ("b", B)):
        write(tmp_path, name, rows)
    run_flow(job)
    with patch.object(deduplicate, "DuplicateFinder", side_effect=AssertionError("nothing changed, and keys were read")):
        again = run_flow(job)
    assert (again["rows"]["duplicates"], again["verified"]) == (1, True)

    write(tmp_path, "a", {"one": A["one"], "two": A["two"]})  # the shard that owned it is replaced by one that has it not
    result = run_flow(job)
    assert found(job) == B | {"one": A["one"], "two": A["two"]}
    assert (result["rows"]["duplicates"], result["verified"]) == (0, True)

    write(tmp_path, "a", A)  # and it comes back
    with patch.object(Checkpoint, "replace_owners", side_effect=Transient("killed")), pytest.raises(Transient):
        run_flow(job)
    assert run_flow(job)["verified"] is True
    assert found(job) == B | A

    (tmp_path / "rows" / "a.parquet").unlink()  # all of the file that owned it
    assert run_flow(job)["verified"] is True
    assert found(job) == B


def test_refused_by_name_each_time_and_with_the_same_collection(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    job = job_of(tmp_path, tiny_model, "refuse")
    for name, rows in (("a", A), ("b", B)):
        write(tmp_path, name, rows)
    for _ in range(2):
        with pytest.raises(RunFailed, match=r"key 'both' of b\.parquet.* is also in a\.parquet.*failures\.on_duplicate") as refused:
            run_flow(job)
        assert refused.value.summary["rows"]["duplicates"] == 1
    run_flow(job_of(tmp_path, tiny_model, "first"))
    assert found(job) == B | A


def test_the_same_content_in_two_files_is_there_once_and_proved(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, milvus_server: MilvusProcess
) -> None:
    """Keys are hashes of the content; on a real server, whose counts are asked right after its upserts."""
    job = make_job(tmp_path, tiny_model, target__uri=milvus_server.uri, target__collection="hashed")
    del job["source"]["id"]
    write(tmp_path, "a", {"1": "the one", "2": "a two"})
    write(tmp_path, "b", {"3": "the one", "4": "to be four"})
    result = run_flow(job)
    assert (result["rows"]["duplicates"], result["rows"]["loaded"], result["verified"]) == (1, 3, True)
