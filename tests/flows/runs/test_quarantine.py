"""Rows that cannot be embedded are set aside with a reason, the rest goes on, and they can be tried again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks.domain.errors import BadInput, RunFailed
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.builders.models import Clip
from tests.builders.worker.pictures import saved, scene

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]

RETRY = "flows.retry.retry_quarantined"
LONG = "k" * 600
TEXTS: list[tuple[str | None, bytes | None, str | None]] = [
    ("good-1", b"the one that was", None),
    (None, b"a text without a key", "null id"),
    ("null", None, "empty text"),
    ("empty", b"", "empty text"),
    ("blank", b" \n\t ", "empty text"),
    ("latin", b"caf\xe9 with milk", "not UTF-8"),
    (LONG, b"a key that is too long", "id too long: 600 bytes, 512 allowed"),
    ("nan", b"poison", "not finite: the model gave NaN"),
    ("raises", b"boom", "encoder: this model cannot stand that word"),
    ("dies", b"crash", "crashed the encoder twice: the process that encoded it died"),
    ("good-2", b"have it at his", None),
    ("good-3", "ünïcödé of the".encode(), None),
]


def not_checked(values: list[bytes | None]) -> pa.Array:
    """Bytes as a string column, as careless writers leave them."""
    data = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(data), data.buffers())


def test_each_bad_row_is_set_aside_with_its_reason_and_the_rest_goes_on(kitestring: Kitestring, tmp_path: Path, faulty_model: Path) -> None:
    ids, texts, reasons = zip(*TEXTS, strict=True)
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "text": not_checked(list(texts))}), tmp_path / "rows" / "bad.parquet")
    write_rows(tmp_path / "rows" / "good.parquet", 0, 50)
    settings = {"encoder__trust_remote_code": True, "failures__max_quarantined": 0.5, "failures__stall_seconds": 60}
    job = kitestring.job(make_job(tmp_path, faulty_model, **settings))

    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    bad = {number: reason for number, reason in enumerate(reasons) if reason}
    assert run.json["rows"] == {"source": 62, "embedded": 53, "reused": 0, "duplicates": 0, "quarantined": 9, "loaded": 53, "removed": 0}
    assert run.json["verified"] is True

    listed = kitestring.here("quarantine", "list", job, "--json")
    assert listed.code == 0, listed.err
    assert {row["row"]: row["id"] for row in listed.json} == {number: ids[number] for number in bad}
    for row in listed.json:
        assert "bad.parquet" in row["shard"]
        assert bad[row["row"]] in row["reason"], row
    shown = kitestring.here("quarantine", "list", job)
    assert "the model gave NaN" in shown.out
    assert shown.out.splitlines()[0].replace("┃", " ").split() == ["shard", "row", "id", "reason"]


def test_retry_recovers_what_works_now_and_leaves_the_rest(kitestring: Kitestring, tmp_path: Path, tiny_clip: Clip) -> None:
    """Pictures by their paths: one is missing and appears later, one is broken for good, one is a bomb, one names this machine's network."""
    rows = tmp_path / "rows"
    rows.mkdir()
    for number in range(5):
        (rows / f"{number}.png").write_bytes(saved(scene(number), "PNG"))
    (rows / "half.jpg").write_bytes(saved(scene(6), "JPEG")[:2_000])
    (rows / "bomb.png").write_bytes(saved(Image.new("1", (30_000, 30_000)), "PNG"))
    names = [*(f"{number}.png" for number in range(5)), "half.jpg", "bomb.png", "late.png"]
    places = [*names, "http://localhost:1/far.png"]
    pq.write_table(pa.table({"id": [*names, "far"], "picture": places}), rows / "pictures.parquet")
    encoder = {"kind": "open-clip", "architecture": tiny_clip.architecture, "pretrained": tiny_clip.pretrained, "precision": "float32"}
    source = {"kind": "parquet", "uri": str(rows / "*.parquet"), "id": "id", "image": "picture", "references": ["http"]}
    job = kitestring.job(make_job(tmp_path, tmp_path, source=source, encoder=encoder, failures__max_quarantined=0.5))

    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    assert (run.json["rows"]["embedded"], run.json["rows"]["quarantined"]) == (5, 4)
    reasons = {row["id"]: row["reason"] for row in kitestring.here("quarantine", "list", job, "--json").json}
    assert set(reasons) == {"half.jpg", "bomb.png", "late.png", "far"}
    assert reasons["far"] == "unreadable image: localhost is an address of this machine, which no row may name"
    assert "undecodable image" in reasons["half.jpg"]
    assert "image bomb: 30000x30000 pixels" in reasons["bomb.png"]
    assert "missing image" in reasons["late.png"]

    (rows / "late.png").write_bytes(saved(scene(9), "PNG"))
    retried = kitestring("quarantine", "retry", job, "--json")
    assert retried.code == 0, retried.err
    assert retried.json["rows"] == {"source": 9, "embedded": 1, "reused": 5, "duplicates": 0, "quarantined": 3, "loaded": 6, "removed": 0}
    assert retried.json["verified"] is True
    assert {row["id"] for row in kitestring.here("quarantine", "list", job, "--json").json} == {"half.jpg", "bomb.png", "far"}
    assert kitestring.here("status", job).code == 0


def test_a_retry_says_at_once_what_only_a_run_can_mend(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, faulty_model: Path
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    good, bad = (pa.table({"id": ["a", "b"], "text": ["the one", text]}) for text in ("that was", ""))
    pq.write_table(bad, rows / "first.parquet")
    settings = {"encoder__trust_remote_code": True, "failures__max_quarantined": 1.0}
    document = make_job(tmp_path, faulty_model, **settings)
    run_flow(document)
    pq.write_table(good, rows / "first.parquet")
    for _ in range(2):
        with pytest.raises(BadInput, match=r"no row to retry: first\.parquet.*has changed since it was encoded: `kitestring run`"):
            run_flow(document, RETRY)

    assert run_flow(document)["rows"]["quarantined"] == 0
    began = len(list((tmp_path / "checkpoint").rglob("report.json")))
    idle = run_flow(document, RETRY)
    assert idle["notes"] == ["no row is quarantined: there is nothing to retry"]
    assert (idle["rows"]["loaded"], idle["verified"]) == (2, True)
    assert len(list((tmp_path / "checkpoint").rglob("report.json"))) == began

    pq.write_table(bad.set_column(0, "id", pa.array(["c", "d"])), rows / "second.parquet")
    run_flow(document)
    pq.write_table(bad, rows / "first.parquet")  # one has changed, the other may be tried
    with pytest.raises(RunFailed, match=r"1 of 2 shards failed; the first: first\.parquet.*has changed since it was encoded"):
        run_flow(document, RETRY)
