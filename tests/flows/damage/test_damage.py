"""A checkpoint that is damaged: a run mends it and ends proved, who only looks says what is damaged and changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.stages.report
from tasks.adapters.object_store.registry import open_store
from tasks.adapters.targets.memory_collection import MemoryCollection
from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.commands.promote_by_hand import roll_back
from tasks.domain.errors import BadInput, Newer, Permanent
from tasks.domain.job.parse import parse_job
from tasks.run.preflight import live_collection
from tasks.run.promotion.report_samples import ReportSamples, show_rows
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Command, Kitestring, make_job, text_of
from tests.servers.s3 import S3Bucket

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
FILES, ROWS = 3, 20
EMBED = "flows.embed.embed_corpus"
LOOKS = {"status": 3, "verify": 4, "diff": 4}

# What each kind of object is called, whether who only looks has to name it, and what an edit of it may be.
KINDS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    "seal": ("*/shards/*/seal.json", True, {"name": "another.parquet"}),
    "ledger": ("*/loads/*/????????????????????????????????.json", True, {"more": 1}),
    "proof": ("*/loads/*/verified.json", True, {"more": 1}),
    "owners": ("*/owners/*.json", True, {"settled": False}),
    "duplicates": ("*/owners/*/*.parquet", True, {}),
    "keys": ("*/shards/*/keys-*.parquet", False, {}),
    "promotion": ("promotions/*/*.json", False, {"by": "rollback"}),
    "rates": ("encoders/*-rates.json", False, {"more": 1}),
    "report": ("*/runs/*/report.json", False, {"rows": 3}),
    "encoder": ("*/encoder.json", True, {}),
    "pin": ("encoders/" + 32 * "?" + ".json", True, {}),
}
NOT_MOVED = {"duplicates", "keys", "rates", "report"}  # made again where they are, or passed over
NOT_REPLACED = {"promotion", "rates"}  # by a run that has nothing to promote or to encode
HOW: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "not JSON": lambda _: b"\x80 what?",
}


def write(folder: Path) -> None:
    """Some files; the last row of each is also the first of the next one."""
    (folder / "rows").mkdir()
    for number in range(FILES):
        rows = range(number * ROWS, (number + 1) * ROWS + 1)
        table = pa.table({"id": [f"row-{row}" for row in rows], "text": [text_of(row) for row in rows]})
        pq.write_table(table, folder / "rows" / f"{number}.parquet")


@pytest.fixture
def job(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    """Of a corpus that a run has just proved."""
    write(tmp_path)
    where = {"target__uri": f"memory://{tmp_path.name}", "failures__on_duplicate": "first", "compute__processes": 1}
    document = make_job(tmp_path, tiny_model, **where)
    assert run_flow(document)["verified"] is True
    return document


def corpus(job: dict[str, Any]) -> Path:
    return Path(job["checkpoint"]) / "rows"


def files(job: dict[str, Any], pattern: str) -> list[Path]:
    found = sorted(corpus(job).glob(pattern))
    assert found
    return found


def contents(job: dict[str, Any]) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in corpus(job).rglob("*") if path.is_file()}


def look(kitestring: Kitestring, job: dict[str, Any]) -> dict[str, Command]:
    path = kitestring.job(job)
    return {command: kitestring.here(command, path) for command in LOOKS}


@pytest.mark.parametrize("kind", KINDS)
def test_any_object_may_be_damaged_in_any_way(run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], kind: str) -> None:
    pattern, named, edit = KINDS[kind]
    first = files(job, pattern)[-1].read_bytes()
    for how in [*HOW, *(["edited"] if edit else [])]:
        path = max(files(job, pattern), key=lambda path: path.stat().st_mtime_ns)
        good = first if kind == "rates" else path.read_bytes()  # which only a run that encodes writes again
        path.write_bytes(HOW[how](good) if how in HOW else json.dumps({**json.loads(good), **edit}).encode())
        before = contents(job)
        for command, done in look(kitestring, job).items():
            assert done.code == (LOOKS[command] if named else 0), (how, command, done)
            lines = [line for line in (done.out + done.err).splitlines() if path.name in line]
            assert len(lines) == named, (how, command, done)
            assert all("`kitestring run` rewrites it" in line for line in lines)
        assert not named or contents(job) == before

        ran = run_flow(job)
        assert ran["verified"] is True, how
        assert (ran["rows"]["embedded"], ran["rows"]["loaded"], ran["rows"]["duplicates"]) == (0, FILES * ROWS + 1, FILES - 1), how
        if kind not in NOT_MOVED:
            kept = max(corpus(job).glob(f"damaged/*/{path.relative_to(corpus(job))}"))
            assert kept.read_bytes() == before[path], how
            assert [note for note in ran["notes"] if path.name in note], how
        assert {command: done.code for command, done in look(kitestring, job).items()} == dict.fromkeys(LOOKS, 0), how
        if kind in NOT_REPLACED:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(good)


def edit(path: Path, *names: str, value: object) -> None:
    """Change one field of a document, and nothing else."""
    document = json.loads(path.read_bytes())
    place = document
    for name in names[:-1]:
        place = place[name]
    assert place[names[-1]] != value
    place[names[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("which", ["encoder", "pin"])
def test_a_record_of_the_encoder_that_was_edited_stops_every_run_before_it_writes(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], which: str
) -> None:
    path = files(job, KINDS[which][0])[0]
    good = path.read_bytes()
    edits = (("identity", "weights"), "others"), (("identity", "preprocessing", "normalize"), False), (("facts", "dim"), 16)
    for names, value in edits:
        path.write_bytes(good)
        edit(path, *names, value=value)
        before = contents(job)
        for flow in (EMBED, "flows.replay.replay_seals"):
            with pytest.raises(BadInput, match=f"{path.name}.* {names[1]} is "):
                run_flow(job, flow)
        assert {command: done.code for command, done in look(kitestring, job).items()} == dict.fromkeys(LOOKS, 2)
        assert contents(job) == before

    path.unlink()  # as it says
    assert run_flow(job)["verified"] is True
    assert path.exists()


def test_what_a_newer_version_wrote_is_refused_and_stays(run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any]) -> None:
    for kind in ("seal", "ledger", "owners", "encoder", "pin", "proof"):
        path = files(job, KINDS[kind][0])[0]
        good = path.read_bytes()
        document = json.loads(good)
        (document["identity"] if kind in {"encoder", "pin"} else document)["format_version"] = 99
        path.write_text(json.dumps(document))
        before = contents(job)
        with pytest.raises(Newer, match=rf"{path.name}: written by a newer Kitestring \(format 99"):
            run_flow(job)
        for done in look(kitestring, job).values():
            assert done.code == 2, (kind, done)
            assert "written by a newer Kitestring (format 99" in done.err.replace("\n", " "), kind
        assert path.read_bytes() == before[path]
        assert not (corpus(job) / "damaged").exists()
        path.write_bytes(good)


def test_a_damaged_entry_of_a_shard_that_has_left_the_source_is_made_again_from_its_seal(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], tmp_path: Path
) -> None:
    """Who replaces its rows later has to know of them."""
    table = pq.read_table(tmp_path / "rows" / "0.parquet")
    entries = {path: path.read_bytes() for path in files(job, KINDS["ledger"][0])}
    (path,) = [path for path in entries if json.loads(entries[path])["group"] == "0.parquet"]
    pq.write_table(table.slice(0, 10), tmp_path / "rows" / "0.parquet")
    path.write_bytes(b"{")
    assert run_flow(job)["verified"] is True
    assert not path.exists()
    client = MemoryTarget(job["target"]["uri"]).collection(f"rows_{fingerprint(job)[:8]}")
    assert client.count() == FILES * ROWS + 1 - 10


def fingerprint(job: dict[str, Any]) -> str:
    return files(job, "*/encoder.json")[0].parent.name


def test_a_misnamed_entry_of_the_ledger_is_named_and_counts_for_nothing(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any]
) -> None:
    path = files(job, KINDS["ledger"][0])[0]
    wrong = path.rename(path.with_name(f"{'0' * 32}.json"))
    done = kitestring.here("diff", kitestring.job(job))
    assert (done.code, done.out) == (4, "")
    assert wrong.name in done.err
    assert run_flow(job)["verified"] is True
    assert path.exists()
    assert not wrong.exists()
    assert kitestring.here("diff", kitestring.job(job)).code == 0


def parts(job: dict[str, Any]) -> list[Path]:
    return files(job, "*/shards/*/*/part-*.parquet")


def report_of(job: dict[str, Any]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(files(job, "*/runs/*/report.json")[-1].read_text())
    return report


@pytest.mark.parametrize("how", ["gone", "exchanged", "flipped", "all of them"])
def test_a_part_that_the_proof_finds_damaged_is_encoded_again_in_the_same_run(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], how: str
) -> None:
    one, other, *_ = parts(job)
    if how == "flipped":
        data = one.read_bytes()
        one.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for part in parts(job) if how == "all of them" else [one]:
        if how == "exchanged":
            part.write_bytes(other.read_bytes())
        elif how != "flipped":
            part.unlink()
    damaged = FILES if how == "all of them" else 1
    verified = kitestring.here("verify", kitestring.job(job))
    assert (verified.code, verified.out.count("`kitestring run` encodes its shard again")) == (4, 1)
    done = run_flow(job)
    assert done["verified"] is True
    assert done["rows"]["embedded"] >= damaged * ROWS
    assert done["rows"]["loaded"] == FILES * ROWS + 1
    assert len(report_of(job)["damaged"]) == damaged
    assert {command: done.code for command, done in look(kitestring, job).items()} == dict.fromkeys(LOOKS, 0)


def test_a_part_of_a_file_that_has_left_the_source_is_told_and_its_rows_stay(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], tmp_path: Path
) -> None:
    """Nothing can be encoded again: the ledger alone accounts for the rows from then on, and --full says so."""
    (tmp_path / "rows" / "0.parquet").unlink()
    assert run_flow(job)["verified"] is True
    seals = {path: json.loads(path.read_text()) for path in files(job, KINDS["seal"][0])}
    (seal,) = [seal for seal in seals.values() if seal["group"] == "0.parquet"]
    (Path(job["checkpoint"]) / seal["parts"][0]["key"]).unlink()
    for number in range(2):
        done = run_flow(job)
        assert done["verified"] is True
        assert any("its file is no longer in the source" in note for note in done["notes"]) == (number == 0)
        assert kitestring.here("status", kitestring.job(job)).code == 0
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 4


def test_a_replay_says_that_it_cannot_encode_again(run_flow: RunFlow, job: dict[str, Any]) -> None:
    parts(job)[0].unlink()
    with pytest.raises(Permanent, match="a sealed part is missing; its shard's seal is withdrawn: `kitestring run` encodes it again"):
        run_flow(job, "flows.replay.replay_seals")
    assert run_flow(job)["verified"] is True


def test_seals_and_parts_and_entries_may_be_damaged_all_at_once(run_flow: RunFlow, job: dict[str, Any]) -> None:
    seals, (_, part, _), (_, _, entry) = files(job, KINDS["seal"][0]), parts(job), files(job, KINDS["ledger"][0])
    seals[0].write_bytes(b"")
    part.unlink()
    entry.write_bytes(b"{")
    files(job, KINDS["owners"][0])[0].write_bytes(b"{")
    files(job, KINDS["pin"][0])[0].write_bytes(b"{")
    done = run_flow(job)
    assert (done["verified"], done["rows"]["loaded"]) == (True, FILES * ROWS + 1)


def test_a_rollback_that_cannot_be_read_is_not_undone(run_flow: RunFlow, job: dict[str, Any], tmp_path: Path, tiny_model: Path) -> None:
    newer = make_job(tmp_path, tiny_model, target__uri=job["target"]["uri"], encoder__prompt="query: ")
    newer["failures"], newer["compute"] = job["failures"], job["compute"]
    assert run_flow(newer)["verified"] is True
    before = roll_back(parse_job(newer))["collection"]
    files(job, KINDS["promotion"][0])[-1].write_bytes(b"{")
    done = run_flow(newer)
    assert [note for note in done["notes"] if "may have been a rollback" in note]
    assert [note for note in run_flow(newer)["notes"] if "was rolled back, so the alias does not move to it" in note]
    assert live_collection(parse_job(newer)) == before


@pytest.mark.parametrize(("at_first", "then"), [("folder", "folder"), ("folder", "s3"), ("s3", "s3")])
def test_a_checkpoint_that_was_copied_is_the_same_corpus(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path, s3_bucket: S3Bucket, at_first: str, then: str
) -> None:
    write(tmp_path)
    places = {"folder": str(tmp_path / "{}"), "s3": f"{s3_bucket.url}/{{}}"}
    where = {"target__uri": f"memory://{tmp_path.name}", "failures__on_duplicate": "first", "compute__processes": 1}
    job = make_job(tmp_path, tiny_model, checkpoint=places[at_first].format("first"), **where)
    run_flow(job)
    copied = job | {"checkpoint": places[then].format("second")}
    one, other = open_store(job["checkpoint"]), open_store(copied["checkpoint"])
    for stored in list(one.list("")):
        other.write(stored.key, one.read(stored.key) or b"")
        one.delete(stored.key)

    with patch.object(MemoryCollection, "upsert", side_effect=AssertionError("it was loaded already")):
        done = run_flow(copied)
    assert (done["verified"], done["rows"]["embedded"], done["rows"]["loaded"]) == (True, 0, FILES * ROWS + 1)
    assert not list(one.list(""))
    told = json.dumps([json.loads(other.read(stored.key) or b"") for stored in other.list("rows/") if re.search(_DOCUMENT, stored.key)])
    assert job["checkpoint"] not in told
    elsewhere = make_job(tmp_path, tiny_model, checkpoint=copied["checkpoint"], **where | {"target__uri": f"memory://{tmp_path.name}-2"})
    assert run_flow(elsewhere)["rows"]["loaded"] == FILES * ROWS + 1


_DOCUMENT = r"(seal|encoder|verified)\.json$|/(owners|loads|promotions|encoders)/[^.]*\.json$"


def test_a_part_that_only_the_report_reads_is_encoded_again_as_well(
    run_flow: RunFlow, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = parts(job)

    def show_without_parts(*given: Any) -> ReportSamples:
        while gone:
            gone.pop().unlink()
        return show_rows(*given)

    monkeypatch.setattr(tasks.stages.report, "show_rows", show_without_parts)
    done = run_flow(job)
    assert (done["verified"], done["rows"]["loaded"]) == (True, FILES * ROWS + 1)
    assert len(report_of(job)["damaged"]) == FILES
    assert len(parts(job)) == FILES
