"""A file is what stands at a place: what a run removes, and what it must not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.domain.errors import BadInput
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, image_job, make_job, text_of, write_rows
from tests.builders.models import Clip
from tests.builders.runs import ids
from tests.builders.worker.pictures import saved, scene
from tests.chaos.mirror import rows_in

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def keys_in(job: dict[str, Any]) -> list[str]:
    return sorted(rows_in(job["target"]["uri"], "rows"))


# ---- the same name below another root


def test_a_daily_append_with_the_same_file_names_keeps_every_day(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for day in range(3):
        write_rows(tmp_path / f"2026-11-2{day}" / "part-0.parquet", day * 10, day * 10 + 10)
        job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path / f"2026-11-2{day}"))
        result = run_flow(job)
        assert (result["rows"]["source"], result["rows"]["removed"], result["verified"]) == (10, 0, True)
    assert keys_in(job) == sorted(ids(0, 30))
    write_rows(tmp_path / "2026-11-22" / "part-0.parquet", 25, 35)  # the last day again, with other rows
    result = run_flow(job)
    assert keys_in(job) == sorted(ids(0, 20) + ids(25, 35))
    assert result["rows"]["removed"] == 5
    assert any("5 rows no longer in a file that has changed (1 file)" in note for note in result["notes"])


def test_a_mirror_of_another_root_is_refused_until_it_is_said_to_be_moved(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    for number in range(2):
        write_rows(tmp_path / "old" / f"{number}.parquet", number * 10, number * 10 + 10)
    mirror = {"target__mode": "mirror", "target__allow_shrink": True}
    run_flow(make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "old" / "*.parquet"), **mirror))
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copy2)
    job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "new"), **mirror)
    before = sorted(path for path in (tmp_path / "checkpoint").rglob("*"))
    for _ in range(2):
        with pytest.raises(BadInput, match=r"source\.moved_from") as refused:
            run_flow(job)
        assert str(tmp_path / "new") in str(refused.value)
        assert str(tmp_path / "old") in str(refused.value)
    assert sorted(path for path in (tmp_path / "checkpoint").rglob("*")) == before
    assert kitestring.here("plan", kitestring.job(job)).code == 2

    job["source"]["moved_from"] = str(tmp_path / "old")
    (tmp_path / "new" / "1.parquet").unlink()
    write_rows(tmp_path / "new" / "2.parquet", 20, 30)
    planned = kitestring.here("plan", kitestring.job(job), "--json").json
    assert planned["removals"] == {"gone": {"rows": 10, "files": 1}}
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["rows"]["reused"], result["rows"]["removed"]) == (10, 10, 10)
    assert keys_in(job) == sorted(ids(0, 10) + ids(20, 30))

    del job["source"]["moved_from"]  # it stands in the ledger by now
    write_rows(tmp_path / "new" / "0.parquet", 0, 5)
    assert run_flow(job)["rows"]["removed"] == 5
    assert keys_in(job) == sorted(ids(0, 5) + ids(20, 30))


def test_an_append_of_moved_files_replaces_them_where_it_is_told(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "old" / "a.parquet", 0, 10)
    run_flow(make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "old")))
    (tmp_path / "old").rename(tmp_path / "new")
    write_rows(tmp_path / "new" / "a.parquet", 0, 8)
    job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "new"), source__moved_from=f"{tmp_path / 'old'}/*.parquet")
    result = run_flow(job)
    assert (result["rows"]["removed"], keys_in(job)) == (2, sorted(ids(0, 8)))


def test_a_folder_above_covers_what_was_read_below_it(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "lake" / "de" / "a.parquet", 0, 10)
    mirror = {"target__mode": "mirror"}
    run_flow(make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "lake" / "de"), **mirror))
    write_rows(tmp_path / "lake" / "fr" / "a.parquet", 10, 20)
    job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "lake"), **mirror)
    run_flow(job)
    assert keys_in(job) == sorted(ids(0, 20))


def test_rows_of_a_file_that_was_renamed_have_one_owner_and_are_counted(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    """There and back: a shard that is planned again is loaded again, since its rows carry another one by then."""
    for mode in ("append", "mirror"):
        folder = tmp_path / mode
        write_rows(folder / "rows" / "a.parquet", 0, 10)
        job = make_job(folder, tiny_model, target__mode=mode)
        run_flow(job)
        (folder / "rows" / "a.parquet").rename(folder / "rows" / "b.parquet")
        result = run_flow(job)
        assert (keys_in(job), result["rows"]["embedded"], result["rows"]["reused"]) == (sorted(ids(0, 10)), 0, 10)
        (folder / "rows" / "b.parquet").rename(folder / "rows" / "a.parquet")
        result = run_flow(job)
        assert (keys_in(job), result["rows"]["embedded"], result["verified"]) == (sorted(ids(0, 10)), 0, True)


# ---- shards of many files


@pytest.mark.parametrize("modes", [("append",) * 3, ("append", "append", "mirror"), ("mirror",) * 3, ("mirror", "append", "append")])
def test_a_picture_that_is_added_and_taken_away_again_costs_no_other_its_place(
    run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip, modes: tuple[str, ...]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(30):
        (pictures / f"p{number:02d}.png").write_bytes(saved(scene(number), "png"))

    def play(mode: str) -> set[str]:
        job = image_job(tmp_path, tiny_clip, {"kind": "images", "uri": str(pictures)}, target__mode=mode, shards__rows=10)
        assert run_flow(job)["verified"] is True
        return set(rows_in(job["target"]["uri"], "rows", texts=False))

    there = {f"p{number:02d}.png" for number in range(30)}
    assert play(modes[0]) == there
    (pictures / "a00.png").write_bytes(saved(scene(99), "png"))
    assert play(modes[1]) == there | {"a00.png"}
    (pictures / "a00.png").unlink()
    assert play(modes[2]) == (there if modes[2] == "mirror" else there | {"a00.png"})
    (pictures / "p05.png").unlink()  # the first of its shard stays
    assert play(modes[2]) == (there - {"p05.png"} if modes[2] == "mirror" else there | {"a00.png"})


# ---- rows that a killed run put there


def dying_before_the_ledger(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Every row of a shard is acknowledged, and the process dies before the ledger says so; what is returned undoes it."""
    from tasks.adapters.checkpoint.ledger import Ledger  # noqa: PLC0415

    class Killed(BaseException):
        pass

    def dies(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(Ledger, "record_load", dies)
    return monkeypatch.undo


@pytest.mark.parametrize("mode", ["append", "mirror"])
def test_rows_that_a_killed_run_loaded_leave_with_their_file(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    write_rows(tmp_path / "rows" / "kept.parquet", 100, 120)
    write_rows(tmp_path / "rows" / "changed.parquet", 0, 50)
    write_rows(tmp_path / "rows" / "gone.parquet", 50, 60)
    job = make_job(tmp_path, tiny_model, target__mode=mode, target__allow_shrink=True)
    revive = dying_before_the_ledger(monkeypatch)
    with pytest.raises(BaseException):  # noqa: B017 - as a kill would
        run_flow(job)
    revive()
    assert len(keys_in_collection(job)) > 0
    write_rows(tmp_path / "rows" / "changed.parquet", 0, 45)
    (tmp_path / "rows" / "gone.parquet").unlink()
    result = run_flow(job)
    assert result["verified"] is True
    stays = ids(50, 60) if mode == "append" and "row-50" in keys_in(job) else []
    assert keys_in(job) == sorted(ids(100, 120) + ids(0, 45) + stays)
    assert len(stays) in (0, 10)


def keys_in_collection(job: dict[str, Any]) -> list[str]:
    """Whatever there is, before any alias."""
    from pymilvus import MilvusClient  # noqa: PLC0415

    client = MilvusClient(job["target"]["uri"])
    try:
        (name,) = client.list_collections()
        client.load_collection(name)
        return [row["id"] for row in client.query(name, filter='id != ""', output_fields=["id"], limit=16_384)]
    finally:
        client.close()


def test_the_ledger_is_the_collections_however_its_address_is_spelled(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 10, number * 10 + 10)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    spellings = [
        str(tmp_path / "rows.db"),
        str(tmp_path / "link" / ".." / tmp_path.name / "rows.db"),
        os.path.relpath(tmp_path / "rows.db"),
    ]
    for first, uri in zip((0, 2, 4), spellings, strict=True):
        write_rows(tmp_path / "rows" / "0.parquet", first, 10)
        job = make_job(tmp_path, tiny_model, target__uri=uri)
        result = run_flow(job)
        assert (result["verified"], result["rows"]["loaded"]) == (True, 20 - first)
        assert keys_in(job) == sorted(ids(first, 20))


def test_a_collection_that_was_made_anew_has_a_ledger_of_its_own(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "0.parquet", 0, 10)
    job = make_job(tmp_path, tiny_model)
    run_flow(job)
    first = {path.parent.name for path in (tmp_path / "checkpoint").rglob("loads/*/*.json")}
    shutil.rmtree(tmp_path / "rows.db")
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["rows"]["loaded"], keys_in(job)) == (0, 10, sorted(ids(0, 10)))
    assert len({path.parent.name for path in (tmp_path / "checkpoint").rglob("loads/*/*.json")} - first) == 1


def test_rows_that_leave_after_a_proof_that_failed_are_removed(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    from pymilvus import MilvusClient  # noqa: PLC0415

    write_rows(tmp_path / "rows" / "0.parquet", 0, 40)
    job = make_job(tmp_path, tiny_model)
    run_flow(job)
    client = MilvusClient(job["target"]["uri"])
    client.load_collection("rows")
    client.delete("rows", ids=["row-3"])
    client.close()
    assert kitestring.here("verify", kitestring.job(job)).code == 4
    write_rows(tmp_path / "rows" / "0.parquet", 0, 20)
    assert run_flow(job)["verified"] is True
    assert keys_in(job) == sorted(ids(0, 20))


def test_texts_are_those_of_the_newest_file(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "monday" / "part-0.parquet", 0, 10)
    run_flow(make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "monday")))
    write_rows(tmp_path / "tuesday" / "part-0.parquet", 5, 15)
    job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path / "tuesday"))
    result = run_flow(job)
    assert rows_in(job["target"]["uri"], "rows") == {f"row-{row}": text_of(row) for row in range(15)}
    assert (result["verified"], result["rows"]["removed"]) == (True, 5)
    assert json.dumps(result["notes"]).count("with keys that other files now have") == 1
