"""Rows that are in a collection stay where what should replace them is worse, and where files cannot be told apart."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows import embed
from tasks.adapters.targets.memory_collection import memory_servers
from tasks.domain.errors import BadInput, RunFailed
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, image_job, make_job, write_rows
from tests.builders.memory_jobs import REPLAY, a_job, keys_in, ledger, texts_in
from tests.builders.models import Clip
from tests.builders.runs import ids

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
LONG_AGO = 10**18  # nanoseconds
REPAIR = "flows.repair.repair_from_seals"


@pytest.mark.parametrize("mode", ["append", "mirror"])
def test_rows_whose_new_version_is_quarantined_beyond_the_limit_stay_until_it_is_not(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, mode: str
) -> None:
    for number in range(3):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    job = a_job(tmp_path, tiny_model, target__mode=mode)
    run_flow(job)
    write_rows(tmp_path / "rows" / "1.parquet", 5, 10, text=[None] * 4 + ["the only one"])
    for _ in range(2):
        with pytest.raises(RunFailed, match="4 of 15 rows were quarantined") as failed:
            run_flow(job)
        assert keys_in(job) == sorted(ids(0, 15))
        assert texts_in(job)["row-9"] == "the only one"
        assert any("4 rows that are no longer in the source stay in the collection" in note for note in failed.value.summary["notes"])  # type: ignore[attr-defined]
        assert failed.value.summary["rows"]["removed"] == 0  # type: ignore[index]
    job["failures"] = {"max_quarantined": 0.5}
    assert run_flow(job)["rows"]["removed"] == 4
    assert keys_in(job) == sorted([*ids(0, 5), "row-9", *ids(10, 15)])


def test_a_replay_says_of_a_changed_file_that_a_run_encodes_it(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    job = a_job(tmp_path, tiny_model)
    run_flow(job)
    write_rows(tmp_path / "rows" / "1.parquet", 5, 9)
    with pytest.raises(RunFailed, match=r"it is not sealed.*`kitestring run` encodes it"):
        run_flow(job, REPLAY)
    assert keys_in(job) == ids(0, 10)


# ---- the same name, size and time at another place


def daily(folder: Path, day: str, word: str) -> Path:
    folder.joinpath(day).mkdir()
    file = folder / day / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": f"{word}-{row}", "text": f"{word} {row}"}) + "\n" for row in range(5)))
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    return file


def test_another_file_of_the_same_name_size_and_time_is_not_taken_for_the_one_that_is_loaded(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    def job_of(day: str, **source: str) -> dict[str, Any]:
        return a_job(tmp_path, tiny_model, source={"kind": "jsonl", "uri": str(tmp_path / day), "id": "id", "text": ["text"], **source})

    daily(tmp_path, "monday", "alpha")
    run_flow(job_of("monday"))
    daily(tmp_path, "tuesday", "gamma")
    assert run_flow(job_of("tuesday"))["rows"]["embedded"] == 5
    assert {key.partition("-")[0] for key in keys_in(job_of("tuesday"))} == {"alpha", "gamma"}

    shutil.copytree(tmp_path / "monday", tmp_path / "wednesday", copy_function=shutil.copy2)  # a copy is no other file
    assert run_flow(job_of("wednesday"))["rows"]["reused"] == 5
    shutil.rmtree(tmp_path / "monday")
    (tmp_path / "wednesday").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=r"rows\.jsonl' has the name, size and time of '.*monday/rows\.jsonl'.*source\.moved_from: .*monday"):
        run_flow(job_of("moved"))
    assert run_flow(job_of("moved", moved_from=str(tmp_path / "wednesday")))["rows"]["reused"] == 5


def test_a_picture_takes_no_vector_of_another_place_over(run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip) -> None:
    def job_of(day: str, name: str) -> dict[str, Any]:
        target = {"uri": f"memory://{tmp_path.name}{name}", "collection": "rows"}
        return image_job(
            tmp_path, tiny_clip, {"kind": "images", "uri": str(tmp_path / day)}, target=target, checkpoint=str(tmp_path / name)
        )

    def vectors(job: dict[str, Any]) -> dict[str, list[float]]:
        server = memory_servers[job["target"]["uri"]]
        return {key: [float(number) for number in row["vector"]] for key, row in server.rows[server.aliases["rows"]].items()}

    for day, color in (("monday", (255, 0, 0)), ("tuesday", (0, 0, 255))):
        (tmp_path / day).mkdir()
        for number in range(3 if day == "monday" else 4):  # one more: another shard
            file = tmp_path / day / f"{number}.bmp"
            Image.new("RGB", (64, 64), color).save(file)
            os.utime(file, ns=(LONG_AGO, LONG_AGO))
    for day in ("monday", "tuesday"):
        result = run_flow(job_of(day, "both"))
    run_flow(job_of("tuesday", "alone"))
    assert result["rows"]["embedded"] == 4
    both, alone = vectors(job_of("tuesday", "both")), vectors(job_of("tuesday", "alone"))
    assert {key: pytest.approx(vector, abs=1e-6) for key, vector in alone.items()} == both


# ---- what is counted


def test_a_mirror_counts_what_stays_as_the_collection_has_it(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """Keys that come in many files are many in the ledger."""
    for number in range(6):
        write_rows(tmp_path / "rows" / f"{number}.parquet", 0, 5)
    write_rows(tmp_path / "rows" / "last.parquet", 5, 10)
    job = a_job(tmp_path, tiny_model, target__mode="mirror", target__max_shrink=0.4, failures__on_duplicate="first")
    run_flow(job)
    (tmp_path / "rows" / "last.parquet").unlink()
    with pytest.raises(RunFailed, match=r"5 of the collection's 10 rows \(50%\)"):
        run_flow(job)
    assert keys_in(job) == ids(0, 10)


def test_verify_says_which_part_of_the_source_it_could_not_look_at(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(tmp_path / "rows" / "0.parquet", 0, 5)
    job = make_job(tmp_path, tiny_model)
    run_flow(job)
    assert kitestring.here("verify", kitestring.job(job), "--json").json["notes"] == []
    write_rows(tmp_path / "rows" / "1.parquet", 5, 10)
    (note,) = kitestring.here("verify", kitestring.job(job), "--json").json["notes"]
    assert note.startswith("1 of the source's 2 shards are not sealed and were not compared")


# ---- two runs at once


def test_a_run_removes_nothing_that_another_one_has_loaded_since_it_was_planned(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    job = a_job(tmp_path, tiny_model)
    run_flow(job)
    write_rows(tmp_path / "rows" / "1.parquet", 5, 8)
    waits = embed.assign_owners

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(embed, "assign_owners", waits)
        write_rows(tmp_path / "rows" / "1.parquet", 5, 14)
        run_flow(job)
        waits(*given)

    monkeypatch.setattr(embed, "assign_owners", overtaken)
    with pytest.raises(RunFailed, match=r"has loaded another version of '1\.parquet' since this run began: nothing was removed"):
        run_flow(job)
    assert keys_in(job) == sorted(ids(0, 14))
    assert run_flow(job)["verified"] is True
    assert keys_in(job) == sorted(ids(0, 14))


# ---- a ledger that has lost an entry


def test_a_repair_keeps_rows_of_a_file_that_left_though_the_ledger_has_lost_them(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    job = a_job(tmp_path, tiny_model)
    run_flow(job)
    (tmp_path / "rows" / "1.parquet").unlink()
    run_flow(job)
    for path in ledger(job, f"{'[0-9a-f]' * 32}.*json"):
        if json.loads(path.read_text())["group"] == "1.parquet":
            path.unlink()
    rows = memory_servers[job["target"]["uri"]].rows
    (name,) = rows
    rows[name]["strange"] = {**rows[name]["row-0"], "id": "strange", "shard": "0" * 32}
    repaired = run_flow(job, REPAIR)
    assert (repaired["verified"], repaired["rows"]["removed"]) == (True, 1)
    assert any("the ledger had lost 1 of the sealed shards" in note for note in repaired["notes"])
    assert keys_in(job) == ids(0, 10)
    assert run_flow(job)["verified"] is True
    assert keys_in(job) == ids(0, 10)
