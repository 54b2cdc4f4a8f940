"""The main job: what goes in comes out, once; and doing it again does nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import MilvusClient

from tasks.domain.encoder_identity import EncoderIdentity
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, write_rows
from tests.builders.runs import keys_in
from tests.servers.milvus import MilvusProcess
from tests.servers.s3 import S3Bucket

pytestmark = [pytest.mark.server, pytest.mark.timeout(600), pytest.mark.usefixtures("no_process_left")]
COUNTS = (0, 1, 2, 7, 64, 1_001)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_row_comes_out_once_for_any_number_of_rows_and_ranks(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path, ranks: int
) -> None:
    keys: list[str] = []
    for number, count in enumerate(COUNTS):
        keys += write_rows(tmp_path / "rows" / f"{count}.parquet", 10_000 * number, 10_000 * number + count)
    job = kitestring.job(make_job(tmp_path, tiny_model, compute__processes=ranks, compute__unsaved_rows=200))
    done = kitestring("run", job, "--json")
    assert done.code == 0, done.err
    assert done.json["rows"] == {
        "source": 1075,
        "embedded": 1075,
        "reused": 0,
        "duplicates": 0,
        "quarantined": 0,
        "loaded": 1075,
        "removed": 0,
    }
    assert done.json["verified"] is True
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(keys)


def put_corpus(bucket: S3Bucket, folder: Path, *, files: int, rows: int) -> None:
    for number in range(files):
        path = folder / f"{number:02}.parquet"
        write_rows(path, number * rows, (number + 1) * rows)
        bucket.put(f"corpus/{number:02}.parquet", path.read_bytes())


def test_from_s3_to_s3_and_a_milvus_server_and_again(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path, s3_bucket: S3Bucket, milvus_server: MilvusProcess
) -> None:
    put_corpus(s3_bucket, tmp_path, files=20, rows=1_000)
    where = {"source__uri": f"{s3_bucket.url}/corpus/*.parquet", "checkpoint": f"{s3_bucket.url}/sealed", "target__uri": milvus_server.uri}
    job = kitestring.job(make_job(tmp_path, tiny_model, shards__rows=1_000, target__collection="twenty", **where))

    first = kitestring("run", job, "--json")
    assert first.code == 0, first.err
    assert first.json["shards"] == {"planned": 20, "sealed": 20, "loaded": 20, "failed": 0}
    assert first.json["rows"]["embedded"] == 20_000
    client = MilvusClient(milvus_server.uri)
    counted = client.query("twenty", filter="", output_fields=["count(*)"], consistency_level="Strong")
    client.close()
    assert counted[0]["count(*)"] == 20_000
    assert kitestring("verify", job).code == 0
    assert kitestring("status", job).code == 0

    before = [key for key in s3_bucket.keys("sealed/") if "/shards/" in key]
    again = kitestring("run", job, "--json")
    assert again.code == 0, again.err
    assert again.json["rows"]["embedded"] == 0
    assert again.json["rows"]["reused"] == 20_000
    assert [key for key in s3_bucket.keys("sealed/") if "/shards/" in key] == before


def test_of_a_changed_file_only_new_rows_are_encoded_and_nothing_of_its_old_version_stays(
    run_flow: RunFlow, tmp_path: Path, tiny_model: Path
) -> None:
    for number in range(10):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 50, number * 50 + 50)
    job = make_job(tmp_path, tiny_model)
    run_flow(job)

    changed = tmp_path / "rows" / "3.parquet"
    write_rows(changed, 150, 190)  # ten rows fewer
    rows = pq.read_table(changed).to_pylist()
    rows[7]["text"] += " and more"
    pq.write_table(pa.Table.from_pylist(rows), changed)
    again = run_flow(job)
    assert again["verified"] is True
    assert again["rows"]["embedded"] == 1
    assert again["rows"]["reused"] == 489
    assert sorted(keys_in(str(tmp_path / "rows.db"))) == sorted(f"row-{row}" for row in range(500) if not 190 <= row < 200)


def test_a_removed_file_leaves_in_a_mirror_alone(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    for number in range(2):
        write_rows(tmp_path / "rows" / f"{number}.parquet", number * 5, number * 5 + 5)
    run_flow(make_job(tmp_path, tiny_model))
    (tmp_path / "rows" / "1.parquet").unlink()
    run_flow(make_job(tmp_path, tiny_model))
    assert len(keys_in(str(tmp_path / "rows.db"))) == 10
    run_flow(make_job(tmp_path, tiny_model, target__mode="mirror"))
    assert len(keys_in(str(tmp_path / "rows.db"))) == 5


def test_replay_fills_another_collection_without_encoding(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    keys = write_rows(tmp_path / "rows" / "a.parquet", 0, 120)
    job = kitestring.job(make_job(tmp_path, tiny_model))
    assert kitestring("run", job).code == 0
    other = f"target.uri={tmp_path / 'other.db'}"
    replayed = kitestring("replay", job, "--set", other, "--json")
    assert replayed.code == 0, replayed.err
    assert replayed.json["rows"]["embedded"] == 0
    assert sorted(keys_in(str(tmp_path / "other.db"))) == sorted(keys)


def test_a_collection_that_was_removed_is_loaded_again_from_the_seals(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 60)
    job = make_job(tmp_path, tiny_model)
    run_flow(job)
    shutil.rmtree(tmp_path / "rows.db")
    again = run_flow(job)
    assert (again["rows"]["embedded"], again["rows"]["loaded"], again["verified"]) == (0, 60, True)


def test_parts_hold_the_collections_fields_in_source_order(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    columns: dict[str, Any] = {"lang": ["en", "de"] * 10, "rank": list(range(20))}
    keys = write_rows(tmp_path / "rows" / "a.parquet", 0, 20, **columns)
    run_flow(make_job(tmp_path, tiny_model, source__metadata=["lang", "rank"]))
    part = pq.read_table(next((tmp_path / "checkpoint").rglob("part-*.parquet")))
    assert part.column_names == ["id", "vector", "text", "lang", "rank", "shard"]
    assert part["id"].to_pylist() == keys
    assert part["rank"].to_pylist() == columns["rank"]


def test_int8_by_torch_is_another_encoder_of_which_nothing_is_kept(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 200)
    document = make_job(tmp_path, tiny_model, encoder__precision="int8", compute__backend="torch")
    run = kitestring("run", kitestring.job(document), "--json")
    assert run.code == 0, run.err
    assert (run.json["rows"]["embedded"], run.json["verified"]) == (200, True)
    (pinned,) = Path(document["checkpoint"]).rglob("encoder.json")
    record = json.loads(pinned.read_text())
    identity = record["identity"]
    assert (identity["precision"], identity["preprocessing"]["quantized"], record["facts"]["quantized"]) == ("int8", "LLM.int8", "LLM.int8")
    assert 0.9 < record["facts"]["lowest_cosine"] <= record["facts"]["mean_cosine"] < 1
    assert "linear layers in LLM.int8" in record["facts"]["note"]
    without = {name: value for name, value in identity["preprocessing"].items() if name != "quantized"}
    assert EncoderIdentity.model_validate({**identity, "preprocessing": without}).fingerprint != identity["fingerprint"]
    assert not list(Path(document["checkpoint"]).rglob("*-int8.zip"))


def test_int8_is_quantised_once_and_the_next_run_computes_with_the_same_model(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(tmp_path / "rows" / "a.parquet", 0, 200)
    document = make_job(tmp_path, tiny_model, encoder__precision="int8")
    first = kitestring("run", kitestring.job(document), "--json")
    assert first.code == 0, first.err
    (pinned,) = Path(document["checkpoint"]).rglob("encoder.json")
    record = json.loads(pinned.read_text())
    assert record["identity"]["precision"] == "int8"
    assert record["identity"]["preprocessing"]["quantized"] == record["facts"]["quantized"] != ""
    assert 0.9 < record["facts"]["lowest_cosine"] <= record["facts"]["mean_cosine"] <= 1
    write_rows(tmp_path / "rows" / "b.parquet", 200, 300)
    second = kitestring("run", kitestring.job(document), "--json")
    assert second.code == 0, second.err
    assert (second.json["rows"]["embedded"], second.json["rows"]["reused"], second.json["verified"]) == (100, 200, True)
    assert list(Path(document["checkpoint"]).rglob("encoder.json")) == [pinned]
    assert len(list(Path(document["checkpoint"]).rglob("*-int8.zip"))) == 1
