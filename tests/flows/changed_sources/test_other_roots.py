"""Files below another root that look alike are other files, whichever collection they go to: seals are of a place, not of a name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tasks.adapters.checkpoint.checkpoint import Checkpoint
from tasks.adapters.checkpoint.ledger import Ledger
from tasks.adapters.targets.memory_collection import memory_servers
from tasks.commands.inspect import look_at_plan, look_at_quarantine, look_at_status
from tasks.domain.errors import BadInput, Permanent, RunFailed
from tasks.domain.job.parse import parse_job
from tasks.stages.verify import look_at_proof
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import image_job, make_job, write_rows
from tests.builders.memory_jobs import REPLAY, a_job, ledger, texts_in
from tests.builders.models import Clip
from tests.builders.tars import pack

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
LONG_AGO = 10**18  # nanoseconds
REPAIR, RETRY = "flows.repair.repair_from_seals", "flows.retry.retry_quarantined"
RED, BLUE = (255, 0, 0), (0, 0, 255)


def put(file: Path, data: bytes) -> Path:
    """A file whose time says nothing of its content."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    return file


def jsonl(folder: Path, word: str, *, empty: int = 0) -> None:
    """Five rows, whose file has one size for all words of one length. `empty`: of them without text."""
    rows = [{"id": f"{row}", "text": "" if row < empty else f"{word} {row}"} for row in range(5)]
    put(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def text_file(folder: Path, word: str) -> None:
    put(folder / "rows.txt", f"{word} {word}".encode())


def tar(folder: Path, word: str) -> None:
    put(folder / "rows.tar", pack([("0.txt", word.encode()), ("1.txt", word.encode())]))


TEXTS: dict[str, tuple[Callable[[Path, str], None], dict[str, Any]]] = {
    "jsonl": (jsonl, {"kind": "jsonl", "id": "id", "text": ["text"]}),
    "chunks": (jsonl, {"kind": "jsonl", "id": "id", "text": ["text"], "chunks": {"tokens": 16}}),
    "text-files": (text_file, {"kind": "text-files"}),
    "webdataset": (tar, {"kind": "webdataset", "embed": "text"}),
}


def job_of(folder: Path, model: Path, root: str, collection: str = "", *, kind: str = "jsonl", **settings: Any) -> dict[str, Any]:
    source = {**TEXTS[kind][1], "uri": str(folder / root), **settings.pop("source", {})}
    return a_job(folder, model, collection, source=source, **settings)


def ledger_entries(job: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in ledger(job, "*.json") if len(path.name) > 36]


def words_in(job: dict[str, Any]) -> set[str]:
    return {text.split()[0] for text in texts_in(job).values()}


# ---- every kind of source


@pytest.mark.parametrize("kind", TEXTS)
def test_a_new_collection_takes_no_seal_of_another_root(run_flow: RunFlow, tmp_path: Path, tiny_model: Path, kind: str) -> None:
    for root, word in (("a", "alpha"), ("b", "gamma")):
        TEXTS[kind][0](tmp_path / root, word)
    run_flow(job_of(tmp_path, tiny_model, "a", "1", kind=kind))
    first = list((tmp_path / "checkpoint").rglob("seal.json"))
    for root, collection, word in (("b", "2", "gamma"), ("a", "3", "alpha"), ("b", "4", "gamma")):
        job = job_of(tmp_path, tiny_model, root, collection, kind=kind)
        result = run_flow(job)
        assert (result["verified"], words_in(job)) == (True, {word})
        assert (result["rows"]["embedded"] > 0) == (collection == "2")  # each root's once
    assert len(list((tmp_path / "checkpoint").rglob("seal.json"))) == 2 * len(first)


def pictures(folder: Path, color: tuple[int, int, int], number: int = 3) -> None:
    folder.mkdir(parents=True)
    for name in range(number):
        Image.new("RGB", (64, 64), color).save(folder / f"{name}.bmp")
        os.utime(folder / f"{name}.bmp", ns=(LONG_AGO, LONG_AGO))


def manifest(folder: Path, _: object = None) -> None:
    put(folder / "rows.jsonl", b"".join(b'{"id": "%d", "image": "pictures/%d.bmp"}\n' % (row, row) for row in range(3)))


def picture_job(folder: Path, clip: Clip, root: str, collection: str, **source: Any) -> dict[str, Any]:
    target = {"uri": f"memory://{folder.name}{collection}", "collection": "rows"}
    return image_job(folder, clip, {"kind": "images", **source, "uri": str(folder / root)}, target=target)


def vectors_in(job: dict[str, Any]) -> dict[str, list[float]]:
    server = memory_servers[job["target"]["uri"]]
    return {key: pytest.approx([float(x) for x in row["vector"]], abs=1e-6) for key, row in server.rows[server.aliases["rows"]].items()}


@pytest.mark.parametrize("kind", ["images", "jsonl"])
def test_pictures_of_another_root_are_encoded_though_what_names_them_is_the_same(
    run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip, kind: str
) -> None:
    source = {"kind": "jsonl", "id": "id", "image": "image"} if kind == "jsonl" else {}
    for root, color in (("a", RED), ("b", BLUE)):
        pictures(tmp_path / root / "pictures", color)
        if kind == "jsonl":
            manifest(tmp_path / root)
    run_flow(picture_job(tmp_path, tiny_clip, "a", "1", **source))
    job = picture_job(tmp_path, tiny_clip, "b", "2", **source)
    if kind == "jsonl":  # the list is a copy, and nobody has looked at the pictures
        with pytest.raises(BadInput, match="of which it is a copy"):
            run_flow(job)
        os.utime(tmp_path / "b" / "rows.jsonl", ns=(LONG_AGO + 1,) * 2)
    result = run_flow(job)
    assert (result["verified"], result["rows"]["embedded"]) == (True, 3)
    assert next(iter(vectors_in(job).values())) != next(iter(vectors_in(picture_job(tmp_path, tiny_clip, "a", "1")).values())).expected


# ---- what runs that were killed have left


@pytest.mark.parametrize("left", ["seals", "parts"])
def test_what_a_killed_run_left_is_not_adopted_at_another_root(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    def dies(*_: Any) -> None:
        raise Permanent("killed")

    jsonl(tmp_path / "a", "alpha")
    jsonl(tmp_path / "b", "gamma")
    with monkeypatch.context() as patched:
        patched.setattr(*((Ledger, "intend_load") if left == "seals" else (Checkpoint, "seal")), dies)
        with pytest.raises(RunFailed):
            run_flow(job_of(tmp_path, tiny_model, "a"))
    job = job_of(tmp_path, tiny_model, "b")
    result = run_flow(job)
    assert (result["verified"], result["rows"]["embedded"], words_in(job)) == (True, 5, {"gamma"})
    job = job_of(tmp_path, tiny_model, "a")
    result = run_flow(job)  # the same keys: the newest file's
    assert (result["verified"], result["rows"]["embedded"], words_in(job)) == (True, 0, {"alpha"})


# ---- those who look, mend, retry and replay


def test_nothing_is_said_compared_or_mended_of_another_root_by_the_seals_of_the_first(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    jsonl(tmp_path / "a", "alpha", empty=2)
    jsonl(tmp_path / "b", "gamma", empty=2)
    most = {"failures__max_quarantined": 0.5}
    run_flow(job_of(tmp_path, tiny_model, "a", **most))
    here = job_of(tmp_path, tiny_model, "b", **most)
    job = parse_job(here)
    assert (look_at_status(job).shards.sealed, look_at_status(job).rows.embedded) == (0, 0)
    (note,) = look_at_proof(job).notes
    assert note.startswith("1 of the source's 1 shards are not sealed")
    assert list(look_at_quarantine(job)) == []
    assert look_at_plan(job)["shards"]["sealed"] == 0
    with pytest.raises(RunFailed, match="it is not sealed"):
        run_flow(job_of(tmp_path, tiny_model, "b", "2", **most), REPLAY)
    with pytest.raises(BadInput, match="no row to retry"):
        run_flow(here, RETRY)
    with pytest.raises(RunFailed):
        run_flow(here, REPAIR)
    assert words_in(here) == {"alpha"}
    assert run_flow(here)["verified"] is True
    assert words_in(here) == {"gamma"}
    assert look_at_proof(job).proved


# ---- moved, mounted elsewhere, copied


def test_a_checkpoint_that_moved_with_its_source_asks_for_moved_from_and_encodes_nothing(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    jsonl(tmp_path / "a", "alpha")
    run_flow(job_of(tmp_path, tiny_model, "a", "1"))
    (tmp_path / "a").rename(tmp_path / "b")
    for flow in ("flows.embed.embed_corpus", REPLAY):
        before = sorted((tmp_path / "checkpoint").rglob("*"))
        with pytest.raises(BadInput, match=r"b/rows\.jsonl' has the name, size and time of '.*no longer there.*source\.moved_from: .*/a;"):
            run_flow(job_of(tmp_path, tiny_model, "b", "2"), flow)
        assert sorted((tmp_path / "checkpoint").rglob("*")) == before
        with pytest.raises(BadInput, match=r"source\.moved_from"):
            look_at_plan(parse_job(job_of(tmp_path, tiny_model, "b", "2")))
        with pytest.raises(BadInput, match=r"source\.moved_from: .*/a;"):  # a place that nobody has read
            run_flow(job_of(tmp_path, tiny_model, "b", "2", source={"moved_from": str(tmp_path / "x")}), flow)
    moved = {"moved_from": str(tmp_path / "a")}
    for flow, collection, source in ((REPLAY, "2", moved), ("flows.embed.embed_corpus", "3", {}), (REPLAY, "4", {})):
        job = job_of(tmp_path, tiny_model, "b", collection, source=source)
        result = run_flow(job, flow)
        assert (result["verified"], result["rows"]["embedded"], words_in(job)) == (True, 0, {"alpha"})
    (tmp_path / "b").rename(tmp_path / "c")
    job = job_of(tmp_path, tiny_model, "c", "1", source={"moved_from": str(tmp_path / "b")})
    assert run_flow(job)["rows"]["embedded"] == 0
    (tmp_path / "c").rename(tmp_path / "a")  # and back, which is no move for anybody
    assert run_flow(job_of(tmp_path, tiny_model, "a", "5"))["rows"]["embedded"] == 0


def test_pictures_that_moved_keep_their_vectors_in_shards_that_change_later(run_flow: RunFlow, tmp_path: Path, tiny_clip: Clip) -> None:
    pictures(tmp_path / "a", RED)
    run_flow(picture_job(tmp_path, tiny_clip, "a", "1"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert run_flow(picture_job(tmp_path, tiny_clip, "b", "1", moved_from=str(tmp_path / "a")))["rows"]["embedded"] == 0
    Image.new("RGB", (64, 64), BLUE).save(tmp_path / "b" / "new.bmp")
    assert run_flow(picture_job(tmp_path, tiny_clip, "b", "1"))["rows"]["embedded"] == 1
    assert run_flow(picture_job(tmp_path, tiny_clip, "b", "2"))["rows"]["embedded"] == 0


def test_copies_of_texts_take_the_vectors_over_and_of_pictures_are_asked_about(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, tiny_clip: Clip
) -> None:
    jsonl(tmp_path / "a", "alpha")
    run_flow(job_of(tmp_path, tiny_model, "a", "1"))
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy2)
    job = job_of(tmp_path, tiny_model, "b", "2")
    result = run_flow(job)
    assert (result["rows"]["embedded"], result["rows"]["reused"], words_in(job)) == (0, 5, {"alpha"})
    pictures(tmp_path / "of" / "a", RED)
    shutil.copytree(tmp_path / "of" / "a", tmp_path / "of" / "b", copy_function=shutil.copy2)
    run_flow(picture_job(tmp_path / "of", tiny_clip, "a", "1"))
    with pytest.raises(BadInput, match=r"of which it is a copy.*source\.moved_from: .*/a;"):
        run_flow(picture_job(tmp_path / "of", tiny_clip, "b", "2"))
    job = picture_job(tmp_path / "of", tiny_clip, "b", "2", moved_from=str(tmp_path / "of" / "a"))
    assert run_flow(job)["rows"]["embedded"] == 0


# ---- checkpoints of before


def as_before(folder: Path) -> None:
    """A checkpoint of a version that kept no note of roots beside the seals."""
    for found in (folder / "checkpoint").rglob("places/*.json"):
        found.unlink()


def test_a_checkpoint_of_before_goes_on_at_its_root_and_gives_no_other_its_seals(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    jsonl(tmp_path / "a", "alpha")
    jsonl(tmp_path / "b", "gamma")
    jsonl(tmp_path / "c", "omega")
    run_flow(job_of(tmp_path, tiny_model, "a", "1"))
    as_before(tmp_path)
    assert look_at_status(parse_job(job_of(tmp_path, tiny_model, "b", "2"))).shards.sealed == 0
    for root, collection, embedded in (("b", "2", 5), ("a", "3", 0), ("b", "4", 0)):
        assert run_flow(job_of(tmp_path, tiny_model, root, collection))["rows"]["embedded"] == embedded
    as_before(tmp_path)  # and one that was damaged: there are two roots now
    for root, collection, embedded in (("a", "1", 0), ("b", "2", 0), ("a", "5", 0), ("c", "6", 5), ("b", "7", 0), ("c", "8", 0)):
        job = job_of(tmp_path, tiny_model, root, collection)
        assert run_flow(job)["rows"]["embedded"] == embedded
        assert words_in(job) == {{"a": "alpha", "b": "gamma", "c": "omega"}[root]}


def test_a_moved_from_that_is_still_in_the_job_of_a_checkpoint_of_before_changes_no_id(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, tiny_clip: Clip
) -> None:
    """The ledger has the new root alone since the run after the move."""
    jsonl(tmp_path / "a", "alpha")
    pictures(tmp_path / "of" / "a", RED)
    moved = {"moved_from": str(tmp_path / "a")}
    run_flow(job_of(tmp_path, tiny_model, "a", "1"))
    run_flow(picture_job(tmp_path / "of", tiny_clip, "a", "1"))
    for folder in (tmp_path, tmp_path / "of"):
        (folder / "a").rename(folder / "b")
    jobs = (
        job_of(tmp_path, tiny_model, "b", "1", source=moved),
        picture_job(tmp_path / "of", tiny_clip, "b", "1", moved_from=str(tmp_path / "of" / "a")),
    )
    for job in jobs:
        run_flow(job)
    for folder, job in zip((tmp_path, tmp_path / "of"), jobs, strict=True):
        as_before(folder)
        seals = sorted((folder / "checkpoint").rglob("seal.json"))
        assert run_flow(job)["rows"]["embedded"] == 0
        assert sorted((folder / "checkpoint").rglob("seal.json")) == seals


@pytest.mark.parametrize("into", ["a", "b"])
def test_files_that_were_moved_to_a_root_with_files_of_its_own_keep_their_seals_as_those_do(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, into: str
) -> None:
    jsonl(tmp_path / "a", "alpha")
    put(tmp_path / "b" / "other.jsonl", b'{"id": "z", "text": "omega"}\n')
    for root in ("a", "b"):
        run_flow(job_of(tmp_path, tiny_model, root, "1"))
    seals = sorted((tmp_path / "checkpoint").rglob("seal.json"))
    (source, name) = ("b", "other.jsonl") if into == "a" else ("a", "rows.jsonl")
    (tmp_path / source / name).rename(tmp_path / into / name)
    job = job_of(tmp_path, tiny_model, into, "1", source={"moved_from": str(tmp_path / source)}, target__mode="mirror")
    for _ in range(2):
        result = run_flow(job)
        assert (result["verified"], result["rows"]["source"], result["rows"]["embedded"], words_in(job)) == (True, 6, 0, {"alpha", "omega"})
        assert sorted((tmp_path / "checkpoint").rglob("seal.json")) == seals
        assert {entry["place"] for entry in ledger_entries(job)} == {
            str(tmp_path / into / "rows.jsonl"),
            str(tmp_path / into / "other.jsonl"),
        }


@pytest.mark.parametrize("left", ["seals", "parts"])
def test_what_a_killed_run_of_before_left_is_decided_by_its_rows(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    def dies(*_: Any) -> None:
        raise Permanent("killed")

    jsonl(tmp_path / "a", "alpha")
    jsonl(tmp_path / "b", "gamma")
    with monkeypatch.context() as patched:
        patched.setattr(*((Ledger, "intend_load") if left == "seals" else (Checkpoint, "seal")), dies)
        with pytest.raises(RunFailed):
            run_flow(job_of(tmp_path, tiny_model, "a"))
    as_before(tmp_path)
    for found in (tmp_path / "checkpoint").rglob("roots/*.json"):
        found.unlink()
    job = job_of(tmp_path, tiny_model, "b")
    assert (run_flow(job)["rows"]["embedded"], words_in(job)) == (5, {"gamma"})
    job = job_of(tmp_path, tiny_model, "a")
    assert (run_flow(job)["rows"]["embedded"], words_in(job)) == (0 if left == "seals" else 5, {"alpha"})


# ---- what Kitestring writes itself


def test_a_run_does_not_read_what_earlier_runs_have_written_into_the_folder_of_its_source(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(tmp_path / "rows.parquet", 0, 10)
    job = make_job(tmp_path, tiny_model, source__uri=str(tmp_path), compute__processes=1)
    run_flow(job)
    assert list((tmp_path / "rows.db").rglob("*.parquet"))
    result = run_flow(job)
    assert (result["rows"]["source"], result["rows"]["embedded"], result["verified"]) == (10, 0, True)
    assert any("of the job's checkpoint or Milvus Lite file" in note for note in result["notes"])
