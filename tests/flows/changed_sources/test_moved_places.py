"""What an outside look found of places, roots and what left the source: each was seen to go wrong once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.domain.errors import BadInput
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import write_rows
from tests.builders.memory_jobs import REPLAY, a_job, keys_in, ledger, texts_in
from tests.builders.runs import ids

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def test_files_that_were_moved_into_a_folder_below_are_still_found(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    old = tmp_path / "lake"
    write_rows(old / "a.parquet", 0, 10)
    write_rows(old / "b.parquet", 10, 20)
    run_flow(a_job(tmp_path, tiny_model, source__uri=str(old)))
    (old / "new").mkdir()
    for name in ("a.parquet", "b.parquet"):
        (old / name).rename(old / "new" / name)
    job = a_job(tmp_path, tiny_model, source__uri=str(old / "new"), source__moved_from=str(old))
    write_rows(old / "new" / "b.parquet", 10, 18)
    assert run_flow(job)["rows"]["removed"] == 2
    places = {json.loads(path.read_text())["place"] for path in ledger(job, "*.json") if len(path.name) > 36}
    assert places == {str(old / "new" / name) for name in ("a.parquet", "b.parquet")}
    for stop in (8, 6):
        write_rows(old / "new" / "a.parquet", 0, stop)
        assert run_flow(job)["rows"]["removed"] == 2
        assert keys_in(job) == sorted(ids(0, stop) + ids(10, 18))


def test_a_mirror_is_refused_though_the_note_of_a_root_is_damaged(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number, name in enumerate(("one", "two")):
        write_rows(tmp_path / name / "part-0.parquet", number * 10, number * 10 + 10)
        run_flow(a_job(tmp_path, tiny_model, source__uri=str(tmp_path / name)))
    job = a_job(tmp_path, tiny_model, source__uri=str(tmp_path / "two"), target__mode="mirror", target__allow_shrink=True)
    (path,) = [path for path in ledger(job, "roots/*.json") if json.loads(path.read_text())["root"].endswith("one")]
    path.write_bytes(b"{")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"source\.moved_from"):
            run_flow(job)
        assert keys_in(job) == sorted(ids(0, 20))


@pytest.mark.parametrize("report", ["there", "gone"])
def test_a_damaged_entry_costs_yesterday_nothing(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, report: str) -> None:
    write_rows(tmp_path / "monday" / "part-0.parquet", 0, 10)
    job = a_job(tmp_path, tiny_model, source__uri=str(tmp_path / "monday"))
    run_flow(job)
    if report == "gone":  # as of a run that sealed and was killed
        for found in Path(job["checkpoint"]).glob("rows/*/runs/*/report.json"):
            found.unlink()
    (entry,) = [path for path in ledger(job, "*.json") if len(path.name) > 36]
    entry.write_bytes(b"{")
    write_rows(tmp_path / "tuesday" / "part-0.parquet", 10, 20)
    job = a_job(tmp_path, tiny_model, source__uri=str(tmp_path / "tuesday"))
    assert run_flow(job)["verified"] is True
    assert keys_in(job) == sorted(ids(0, 20))


def test_a_replay_gives_a_key_of_two_files_that_are_gone_to_the_newer_one(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(6):
        rows = tmp_path / f"rows-{number}"
        job = a_job(tmp_path, tiny_model, source__uri=str(rows), source__text=["text", "day"])
        write_rows(rows / f"{number}.parquet", number * 5, number * 5 + 10, day=[f"day {number}"] * 10)
        run_flow(job)
    there = texts_in(job)
    again = a_job(tmp_path, tiny_model, "-again", source__uri=str(rows), source__text=["text", "day"])
    assert run_flow(again, REPLAY)["verified"] is True
    assert texts_in(again) == there


def test_a_replay_notes_the_roots_of_the_rows_that_it_keeps(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number, day in enumerate(("monday", "tuesday")):
        write_rows(tmp_path / day / f"{day}.parquet", number * 10, number * 10 + 10)
        run_flow(a_job(tmp_path, tiny_model, source__uri=str(tmp_path / day)))
    again = a_job(tmp_path, tiny_model, "-again", source__uri=str(tmp_path / "tuesday"))
    run_flow(again, REPLAY)
    again["target"] |= {"mode": "mirror", "allow_shrink": True}
    with pytest.raises(BadInput, match=r"rows read from '.*monday'"):
        run_flow(again)
    assert keys_in(again) == sorted(ids(0, 20))


def test_an_append_knows_a_single_file_that_was_moved(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "old" / "a.parquet", 0, 10)
    run_flow(a_job(tmp_path, tiny_model, source__uri=str(tmp_path / "old" / "a.parquet")))
    (tmp_path / "old").rename(tmp_path / "new")
    write_rows(tmp_path / "new" / "a.parquet", 0, 8)
    new, old = str(tmp_path / "new" / "a.parquet"), str(tmp_path / "old" / "a.parquet")
    job = a_job(tmp_path, tiny_model, source__uri=new, source__moved_from=old)
    assert run_flow(job)["rows"]["removed"] == 2
    assert keys_in(job) == ids(0, 8)
