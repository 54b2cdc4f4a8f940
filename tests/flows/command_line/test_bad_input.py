"""Bad input gets one line that names the thing and the cure, exit 2, and nothing is written.

What planning finds is tried without starting the encoder, all of it; the command is then held to its exit code and
its one line on a handful of them, and on what only reading or the encoder can find.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType, MilvusClient

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.processes.scratch import scratch_folder
from tasks.domain.errors import BadInput
from tasks.domain.job.parse import parse_job
from tasks.run.context import open_run
from tasks.run.plan import Plan, check_target, plan_again, spool_spans
from tasks.run.preflight import inspect_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Command, Kitestring, make_job, write_rows
from tests.servers.milvus import free_ports
from tests.servers.s3 import S3Bucket

pytestmark = pytest.mark.timeout(300)
Job = dict[str, Any]


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job with nothing wrong, before a test spoils it."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows" / "a.parquet", 0, 30)
    return make_job(tmp_path, tiny_model)


def written(folder: Path) -> list[str]:
    """What a run would leave: seals, parts, records, reports, a Milvus Lite file."""
    checkpoint = [str(path) for path in (folder / "checkpoint").rglob("*") if path.is_file()]
    return checkpoint + [str(path) for path in folder.glob("*.db")]


def told(job: Job) -> str:
    """The line that a run answers with before it starts the encoder."""
    with pytest.raises(BadInput) as caught, open_run(parse_job(job)) as run:
        spool_spans(run.inspected, run.scratch)
    line = str(caught.value)
    assert "\n" not in line
    return line


def complaint(command: Command) -> str:
    """The one line with which the command refused."""
    assert command.code == 2, command
    assert command.out == ""
    *before, line = command.err.splitlines()
    assert line.startswith("error: ")
    assert all(other.startswith(("start: ", "start-up: ", "plan: ", "encode: ", "load: ", "verify: ")) for other in before), command.err
    return line


# ---- sources ----


def truncated(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def json_lines(count: int) -> list[str]:
    return [json.dumps({"id": f"row-{i}", "text": f"text {i}"}) for i in range(count)]


def tar_of(count: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 2_000
            tar.addfile(info, io.BytesIO(b"x" * 2_000))
    return file.getvalue()


SOURCES: dict[str, tuple[Callable[[Path], Job], list[str]]] = {
    "a missing file": (lambda d: {"uri": f"{d}/row.parquet"}, ["no such file", "row.parquet", "correct source.uri"]),
    "an empty glob": (lambda d: {"uri": f"{d}/rows/*.pq"}, ["no file matches", "*.pq"]),
    "a folder with nothing in it": (lambda d: {"uri": truncated_folder(d)}, ["no file matches", ".parquet"]),
    "an empty file": (lambda d: {"uri": truncated(d, "empty.parquet", b"")}, ["empty.parquet", "it is empty", "replace"]),
    "a truncated Parquet file": (
        lambda d: {"uri": truncated(d, "cut.parquet", (d / "rows" / "a.parquet").read_bytes()[:-50])},
        ["cut.parquet", "is not a readable Parquet file", "replace the file or leave it out"],
    ),
    "a truncated last line": (
        lambda d: {"kind": "jsonl", "uri": truncated(d, "cut.jsonl", "\n".join(json_lines(9)).encode()[:-5])},
        ["cut.jsonl line 9", "the line is cut off", "repair or remove it"],
    ),
    "a truncated gzip": (
        lambda d: {"kind": "jsonl", "uri": truncated(d, "cut.jsonl.gz", gzip.compress("\n".join(json_lines(9)).encode())[:-20])},
        ["cut.jsonl.gz", "Truncated", "replace the file or leave it out"],
    ),
    "a truncated tar": (
        lambda d: {"kind": "webdataset", "embed": "text", "uri": truncated(d, "cut.tar", tar_of(5)[:6_000])},
        ["cut.tar is cut off", "fetch or pack it again"],
    ),
    "a column that is not there": (lambda _: {"text": ["txt"]}, ["'txt' is not in", "it has id, text", "did you mean 'text'?"]),
    "a key that is not there": (lambda _: {"id": "key"}, ["'key' is not in", "it has id, text"]),
    "metadata that is not there": (lambda _: {"metadata": ["lang"]}, ["'lang' is not in", "it has id, text"]),
    "a name of a field that Kitestring uses": (
        lambda _: {"metadata": {"id": "text"}},
        ["'text' is a field that every collection has: choose another name"],
    ),
}


def truncated_folder(folder: Path) -> str:
    (folder / "nothing").mkdir()
    return str(folder / "nothing")


@pytest.mark.parametrize("what", SOURCES)
def test_a_source_that_cannot_be_read_is_named(job: Job, tmp_path: Path, what: str) -> None:
    spoil, words = SOURCES[what]
    changed = spoil(tmp_path)
    kept = {} if "embed" in changed else job["source"]
    line = told(job | {"source": {**kept, **changed}})
    assert all(word in line for word in words), line
    assert written(tmp_path) == []


# ---- encoders ----

CLIP = {"kind": "open-clip", "architecture": "ViT-B-32", "pretrained": "/nowhere/clip.pt"}
ENCODERS: dict[str, tuple[Job, list[str]]] = {
    "a hub model, offline": (
        {"model": "nobody/no-such-model"},
        ["encoder.model 'nobody/no-such-model'", "the hub cannot be reached", "give a local folder"],
    ),
    "a folder that is not there": ({"model": "/nowhere/model"}, ["encoder.model", "there is no folder '/nowhere/model'"]),
    "a folder without a model": ({"model": "rows"}, ["encoder.model", "holds no model", "modules.json"]),
    "an architecture": (CLIP | {"architecture": "ViT-B-23"}, ["open_clip knows no 'ViT-B-23'", "did you mean"]),
    "a checkpoint": (CLIP, ["encoder.pretrained", "there is no checkpoint '/nowhere/clip.pt'"]),
    "words alone": ({"kind": "sentence-transformers"}, ["embeds text, this source gives image", "use encoder kind 'open-clip'"]),
    "pictures or texts": ({"kind": "open-clip"}, ["embeds images or texts", "source.image or source.text"]),
}


@pytest.mark.parametrize("what", ENCODERS)
def test_an_encoder_that_cannot_be_had_is_named(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder, words = ENCODERS[what]
    if what in {"an architecture", "a checkpoint", "words alone"}:
        job["source"] = {"kind": "parquet", "uri": str(tmp_path / "rows"), "id": "id", "image": "text"}
    if what == "pictures or texts":
        del job["source"]["text"]
    line = told(job | {"encoder": encoder})
    assert all(word in line for word in words), line
    assert written(tmp_path) == []


# ---- checkpoints ----


def test_a_checkpoint_that_cannot_be_written_is_named(job: Job, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in told(job | {"checkpoint": str(tmp_path / "file" / "below")})
    assert "use a folder or s3://bucket/prefix" in told(job | {"checkpoint": "gs://bucket/below"})
    assert written(tmp_path) == []


def test_a_bucket_that_is_missing_or_refuses_is_named(job: Job, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    line = told(job | {"checkpoint": "s3://no-such-bucket-here/below"})
    assert "no-such-bucket-here" in line
    assert "create it, or correct `checkpoint`" in line
    job["source"]["uri"] = "s3://no-such-bucket-here/rows"
    assert "there is no S3 bucket 'no-such-bucket-here'" in told(job)
    job["source"]["uri"] = f"{s3_bucket.url}/rows"
    assert "nothing to read in" in told(job)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "correct AWS_ENDPOINT_URL, or start the server" in told(job)


def test_a_checkpoint_server_that_is_not_there_is_named(job: Job, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_ports(1)[0]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    line = told(job | {"checkpoint": f"{s3_bucket.url}/below"})
    assert str(port) in line
    assert "correct AWS_ENDPOINT_URL" in line


# ---- targets ----


def make_plainly(database: Path, name: str) -> None:
    """A collection that pymilvus made and Kitestring did not."""
    client = MilvusClient(str(database))
    try:
        schema = client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
        client.create_collection(name, schema=schema)
    finally:
        client.close()
        release(database)


def release(database: Path) -> None:
    from milvus_lite.server_manager import server_manager_instance  # noqa: PLC0415

    server_manager_instance.release_server(str(database))


def test_a_target_that_does_not_answer_is_named_at_once(job: Job, tmp_path: Path) -> None:
    job["target"]["uri"] = f"http://127.0.0.1:{free_ports(1)[0]}"
    begun = time.monotonic()
    line = told(job)
    assert f"Milvus at {job['target']['uri']} does not answer: start it or correct target.uri" in line
    assert time.monotonic() - begun < 20
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("file.db/below/rows.db", ["file.db is a file", "correct target.uri"]),
        ("file.db", ["file.db is not a Milvus Lite 3 database", "another path"]),
        ("rows.sqlite", ["'rows.sqlite' is not a Milvus address", "ending in .db"]),
    ],
)
def test_a_target_that_is_none_is_named(job: Job, tmp_path: Path, uri: str, words: list[str]) -> None:
    (tmp_path / "file.db").write_text("")
    job["target"]["uri"] = uri
    line = told(job)
    assert all(word in line for word in words), line
    assert written(tmp_path) == [str(tmp_path / "file.db")]


def test_an_alias_that_is_a_collection_is_named(job: Job, tmp_path: Path) -> None:
    make_plainly(tmp_path / "rows.db", "rows")
    line = told(job)
    assert "target.collection 'rows'" in line
    assert "is a collection" in line
    assert "choose another target.collection" in line
    assert not (tmp_path / "checkpoint" / "rows").exists()


@contextmanager
def held_by_another_process(database: Path) -> Iterator[None]:
    hold = f"from pymilvus import MilvusClient; c = MilvusClient({str(database)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield
        finally:
            holder.kill()


def test_a_milvus_lite_file_in_use_is_named(job: Job, tmp_path: Path) -> None:
    with held_by_another_process(tmp_path / "rows.db"):
        line = told(job)
    assert "rows.db: another process has this Milvus Lite file open: wait for it or end it" in line
    assert not (tmp_path / "checkpoint" / "rows").exists()


# ---- through the command ----


@pytest.mark.parametrize(
    ("document", "arguments", "words"),
    [
        (None, [], ["there is no job file", "nowhere.yaml"]),
        ("source: [unclosed", [], ["is not YAML"]),
        ("", [], ["is empty or not a mapping", "corpus, source and target"]),
        ("just words", [], ["is empty or not a mapping"]),
        ("corpus: a", ["--set", "shards.rows"], ["--set shards.rows: write it as path.to.key=value"]),
        ("corpus: a", ["--set", "shards.row=5"], ["'shards.row' is not a setting; did you mean 'rows'?"]),
        ("corpus: a", ["--set", "source.uri=[unclosed"], ["--set source.uri=[unclosed"]),
        ("sorce: {uri: a}", [], ["'sorce' is not a setting; did you mean 'source'?"]),
        ("shards: {rows: many}", [], ["'shards.rows' must be an integer, not 'many'"]),
    ],
)
def test_a_job_that_is_none_is_refused(
    kitestring: Kitestring, tmp_path: Path, document: str | None, arguments: list[str], words: list[str]
) -> None:
    path = tmp_path / "nowhere.yaml"
    if document is not None:
        path.write_text(document)
    line = complaint(kitestring("run", path, *arguments))
    assert all(word in line for word in words), line


def test_the_command_refuses_with_one_line_and_exit_2(kitestring: Kitestring, job: Job, tmp_path: Path) -> None:
    path = kitestring.job(job)
    refused = {
        f"source.uri={tmp_path}/none.parquet": "no such file or folder",
        "encoder.model=/nowhere/model": "there is no folder",
        f"target.uri=http://127.0.0.1:{free_ports(1)[0]}": "does not answer",
    }
    for setting, words in refused.items():
        run = kitestring("run", path, "--set", setting)
        assert words in complaint(run)
        assert len(run.err.splitlines()) == 1, "found before the encoder started"
        assert written(tmp_path) == []
    assert "did you mean 'text'?" in complaint(kitestring("plan", path, "--set", "source.text=[txt]"))
    assert "`kitestring run` creates them" in complaint(kitestring("verify", path))
    assert "run the job first" in complaint(kitestring("search", path, "words"))
    assert written(tmp_path) == []


def test_what_only_the_encoder_can_find_is_refused_alike(kitestring: Kitestring, job: Job, tmp_path: Path) -> None:
    line = complaint(kitestring("run", kitestring.job(job), "--set", "encoder.prompt_name=passage"))
    assert "encoder.prompt_name 'passage': the model defines no such prompt (it has: query" in line
    assert written(tmp_path) == []


def test_what_only_reading_can_find_is_refused_alike(kitestring: Kitestring, job: Job, tmp_path: Path) -> None:
    lines = json_lines(40_000)
    (tmp_path / "broken.json").write_text("[" + ",".join([*lines[:30_000], '{"id": broken', *lines[30_000:]]) + "]")
    job["source"] |= {"kind": "jsonl", "uri": str(tmp_path / "broken.json")}
    line = complaint(kitestring("run", kitestring.job(job)))
    assert line.startswith(f"error: {tmp_path}/broken.json item 30001: it is not JSON")
    assert "repair the array" in line
    assert written(tmp_path) == []


# ---- a collection that was made otherwise ----


@contextmanager
def planned(job: Job) -> Iterator[Plan]:
    with scratch_folder() as scratch:
        plan = plan_again(inspect_job(parse_job(job)), scratch)
        assert plan is not None
        yield plan


def refusal(job: Job) -> str:
    with planned(job) as plan, pytest.raises(BadInput) as caught:
        check_target(plan)
    return str(caught.value)


def test_a_collection_that_was_made_otherwise_is_refused(kitestring: Kitestring, job: Job, tmp_path: Path) -> None:
    path = kitestring.job(job)
    assert kitestring("run", path).code == 0
    before = written(tmp_path)
    run = kitestring("run", path, "--set", "target.metric=IP")
    assert "it has metric COSINE, the job IP: choose another target.collection, or drop it" in complaint(run)
    assert len(run.err.splitlines()) == 1, "found before the encoder started"
    assert written(tmp_path) == before

    with planned(job) as plan:
        spec = plan.spec
    other = spec.model_copy(update={"dim": 8, "model": "another/model", "fingerprint": spec.fingerprint[:8] + "f" * 24})
    elsewhere = tmp_path / "elsewhere.db"
    made = MilvusTarget(str(elsewhere)).collection(spec.name)
    made.ensure(other)
    made.target.close()
    job["target"]["uri"] = str(elsewhere)
    line = refusal(job)
    assert f"collection '{spec.name}' at {elsewhere} does not match the job: it has dimension 8, the job 32; encoder another/model" in line

    make_plainly(tmp_path / "plain.db", spec.name)
    job["target"]["uri"] = str(tmp_path / "plain.db")
    assert "was not made by this version of Kitestring: choose another target.collection, or drop it" in refusal(job)


# ---- keys that come twice, rows that are too many to set aside ----


def write_texts(path: Path, ids: list[str], texts: list[str | None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.string())}), path)


def stored_text(database: Path, key: str) -> str:
    client = MilvusClient(str(database))
    try:
        client.load_collection("rows")
        return str(client.query("rows", ids=[key], output_fields=["text"])[0]["text"])
    finally:
        client.close()
        release(database)


def test_a_key_that_comes_twice_in_a_shard_is_refused_or_settled(
    kitestring: Kitestring, run_flow: RunFlow, job: Job, tmp_path: Path
) -> None:
    (tmp_path / "rows" / "a.parquet").unlink()
    write_texts(tmp_path / "rows" / "twice.parquet", ["x", "same", "same", "y"], ["one", "the first", "the second", "four"])
    path = kitestring.job(job)
    line = complaint(kitestring("run", path))
    assert "twice.parquet" in line
    assert "'same'" in line
    assert "rows 1 and 2" in line
    assert "failures.on_duplicate" in line
    assert written(tmp_path) == []

    write_texts(tmp_path / "rows" / "good.parquet", ["a", "b"], ["five", "six"])
    half = kitestring("run", path, "--json")
    assert half.code == 1
    assert half.json["shards"] == {"planned": 2, "sealed": 1, "loaded": 1, "failed": 1}
    assert half.json["rows"]["loaded"] == 2
    assert "error: 1 of 2 shards failed" in half.err
    assert "'same'" in half.err
    assert kitestring.here("status", path).code == 3

    for which, text in (("first", "the first"), ("last", "the second")):
        rows = run_flow(job | {"failures": {"on_duplicate": which}})["rows"]
        assert (rows["source"], rows["duplicates"], rows["loaded"]) == (6, 1, 5)
        assert stored_text(tmp_path / "rows.db", "same") == text


def test_too_many_rows_set_aside_fail_the_run_after_the_good_ones_are_safe(
    kitestring: Kitestring, run_flow: RunFlow, job: Job, tmp_path: Path
) -> None:
    write_texts(tmp_path / "rows" / "a.parquet", [f"k{i}" for i in range(10)], ["", None, *(f"text {i}" for i in range(8))])
    path = kitestring.job(job)
    run = kitestring("run", path, "--json")
    assert run.code == 1
    assert run.json["rows"] == {"source": 10, "embedded": 8, "reused": 0, "duplicates": 0, "quarantined": 2, "loaded": 8, "removed": 0}
    assert "2 of 10 rows were quarantined, more than failures.max_quarantined allows (0.01)" in run.err.splitlines()[-1]
    aside = kitestring.here("quarantine", "list", path, "--json")
    assert aside.code == 0
    assert [(row["row"], row["id"]) for row in aside.json] == [(0, "k0"), (1, "k1")]
    assert run_flow(job | {"failures": {"max_quarantined": 0.5}})["verified"] is True

    plan = kitestring.here("plan", path, "--json")
    assert (plan.code, plan.json["rows"], plan.json["shards"]) == (0, {"source": 10, "to_encode": 0}, {"planned": 1, "sealed": 1})
    status = kitestring.here("status", path, "--json")
    assert status.code == 0
    assert status.json["rows"]["embedded"] == 8
    assert status.json["verified"] is True
    proof = kitestring.here("verify", path, "--json")
    assert (proof.code, proof.json["proved"]) == (0, True)
    hits = kitestring.here("search", path, "text 3", "-k", "3", "--json")
    assert hits.code == 0
    assert [set(hit) for hit in hits.json] == [{"id", "score", "text"}] * 3
