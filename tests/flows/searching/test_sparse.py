"""A corpus of learned sparse vectors goes the whole way: runs, reuse, proofs, searches, gate, mirror, damage, replay and gc."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.adapters.rows.vectors.sparse_vectors import as_rows_of, from_mapping, products
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, text_of
from tests.builders.memory_jobs import REPLAY, keys_in
from tests.builders.worker.sparse_model import make_tiny_splade
from tests.flows.changed_sources.documents import chunks, job_of, words, write_documents

REPAIR = "flows.repair.repair_from_seals"
Job = dict[str, Any]


@pytest.fixture(scope="module")
def splade(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_splade(tiny_model, tmp_path_factory.mktemp("splade"))


def write(path: Path, rows: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": list(rows), "text": list(rows.values())}), path)


def vectors_by_key(job: Job) -> dict[str, bytes]:
    with closing(MilvusTarget(job["target"]["uri"])) as target:
        collection = target.collection(str(target.resolve("rows")))
        keys, vectors = collection.fetch([f"row-{n}" for n in range(100)])
    return dict(zip(keys, vectors, strict=True))


def asked(kitestring: Kitestring, job: Job, *arguments: object) -> Any:
    command, more = (arguments[:2], arguments[2:]) if arguments[0] == "quarantine" else (arguments[:1], arguments[1:])
    said = kitestring.here(*command, kitestring.job(job), *more, "--json")
    assert said.code == 0, said.err or said.out
    return json.loads(said.out)


def test_sparse_vectors_go_the_whole_way(run_flow: RunFlow, kitestring: Kitestring, splade: Path, tmp_path: Path) -> None:
    rows = {f"row-{n}": text_of(n) for n in range(60)}
    first, second = dict(list(rows.items())[:40]), dict(list(rows.items())[40:])
    write(tmp_path / "rows" / "a.parquet", first | {"unknown": "漢 字"})
    write(tmp_path / "rows" / "b.parquet", second)
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"query": rows[key], "relevant": [key]}) + "\n" for key in ("row-3", "row-44", "row-50")))
    encoder = {"kind": "sparse", "model": str(splade)}
    job = make_job(tmp_path, splade, encoder=encoder, compute__processes=1, target__mode="mirror", failures__max_quarantined=0.1)
    job["target"] |= {"full_text": "on", "gate": {"queries": str(questions), "mode": "sparse"}}

    made = run_flow(job)
    assert (made["rows"]["embedded"], made["rows"]["quarantined"], made["verified"]) == (60, 1, True)
    assert [of["mode"] for of in made["gate"]["modes"]] == ["sparse", "text", "hybrid"]
    (bad,) = asked(kitestring, job, "quarantine", "list")
    assert (bad["id"], bad["reason"].split(":")[0]) == ("unknown", "zero")
    _searched(kitestring, job, rows)

    for seal in sorted(tmp_path.rglob("seal.json"))[:1]:  # as a run leaves it that was killed before the last seal
        seal.unlink()
    again = run_flow(job)
    assert (again["rows"]["embedded"], again["rows"]["reused"], again["verified"]) == (0, 60, True)

    before = vectors_by_key(job)
    write(tmp_path / "rows" / "a.parquet", first | {"row-0": "it was the one that you have"})  # and no row of unknown words
    write(tmp_path / "rows" / "b.parquet", dict(list(second.items())[:10]))
    mirrored = run_flow(job)
    assert (mirrored["rows"]["embedded"], mirrored["rows"]["reused"], mirrored["rows"]["removed"]) == (1, 49, 10)
    after = vectors_by_key(job)
    assert {key for key in after if after[key] != before[key]} == {"row-0"}
    assert asked(kitestring, job, "verify", "--full")["proved"]

    _damaged_and_repaired(run_flow, kitestring, job, after)
    replayed = job | {"target": job["target"] | {"uri": str(tmp_path / "elsewhere.db")}}
    assert run_flow(replayed, REPLAY)["rows"]["embedded"] == 0
    assert vectors_by_key(replayed) == after
    asked(kitestring, job, "gc", "--delete")
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0


def test_a_document_of_which_one_chunk_has_no_known_word_is_left_out_whole(
    run_flow: RunFlow, kitestring: Kitestring, splade: Path, tmp_path: Path
) -> None:
    """Its other chunks leave the parts that they were sealed in."""
    write_documents(tmp_path / "docs" / "a.jsonl", {"a": words(28), "b": f"{words(14, 1)} {'漢 ' * 14}{words(14, 2)}", "c": words(14, 3)})
    job = job_of(tmp_path, splade, encoder={"kind": "sparse", "model": str(splade)}, compute__processes=1, failures__max_quarantined=0.5)
    job["target"]["uri"] = f"memory://{tmp_path.name}"
    made = run_flow(job)
    assert (made["rows"]["embedded"], made["rows"]["quarantined"], made["verified"]) == (2, 1, True)
    assert keys_in(job) == [*chunks("a", 2), "c#0"]
    (aside,) = asked(kitestring, job, "quarantine", "list")
    assert (aside["id"], aside["reason"].split(":")[:2]) == ("b", ["zero", " chunk 1"])
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0


def _searched(kitestring: Kitestring, job: Job, rows: dict[str, str]) -> None:
    vectors = vectors_by_key(job)
    hits = asked(kitestring, job, "search", rows["row-44"], "--mode", "sparse", "-k", "60")
    (scores,) = products(as_rows_of([vectors["row-44"]]), as_rows_of(list(vectors.values())))
    assert {hit["id"]: hit["score"] for hit in hits} == pytest.approx(dict(zip(vectors, scores.tolist(), strict=True)), rel=1e-4)
    both = asked(kitestring, job, "search", rows["row-44"], "-k", "60", "--explain")
    assert {hit["id"] for hit in both} == set(vectors)
    assert next(hit["ranks"] for hit in both if hit["id"] == hits[0]["id"])["meaning"] == 1
    refused = kitestring.here("search", kitestring.job(job), "anything", "--mode", "dense")
    assert (refused.code, "the vectors of collection" in refused.err, "are sparse: use --mode sparse" in refused.err) == (2, True, True)
    _filtered(kitestring, job)
    assert [of["mode"] for of in asked(kitestring, job, "evaluate")["modes"]] == ["sparse", "text", "hybrid"]
    code = json.loads(kitestring.here("status", kitestring.job(job), "--json").out)["code"]
    application: dict[str, Any] = {}
    exec(code, application)
    theirs = {hit["id"]: hit["distance"] for hit in application["search"](rows["row-44"], k=60)}
    assert theirs == pytest.approx({hit["id"]: hit["score"] for hit in both}, abs=1e-3)


def _filtered(kitestring: Kitestring, job: Job) -> None:
    """In each mode a filter filters, and one that is none is told before the model is loaded for it."""
    for mode in ("sparse", "text", "hybrid"):
        (hit,) = asked(kitestring, job, "search", text_of(44), "--mode", mode, "--filter", 'id == "row-44"')
        assert hit["id"] == "row-44"
        with patch("tasks.run.promotion.query_encoder.QueryEncoder._load", side_effect=AssertionError("the model is loaded")):
            refused = kitestring.here("search", kitestring.job(job), "anything", "--mode", mode, "--filter", "topic = 'a'")
        assert (refused.code, "--filter 'topic = 'a'' was refused" in refused.err, "the fields id, text, as in" in refused.err) == (
            2,
            True,
            True,
        )


def _damaged_and_repaired(run_flow: RunFlow, kitestring: Kitestring, job: Job, right: dict[str, bytes]) -> None:
    with closing(MilvusTarget(job["target"]["uri"])) as target:
        collection = target.collection(str(target.resolve("rows")))
        client, name = collection._connection.client, collection.name
        client.load_collection(name)
        (row,) = client.query(name, filter='id == "row-7"', output_fields=["id", "vector", "text", "shard"])
        first = min(row["vector"])
        client.upsert(name, [row | {"vector": row["vector"] | {first: row["vector"][first] * 1.0001}}])
        assert from_mapping(row["vector"]) == right["row-7"]
    said = kitestring.here("verify", kitestring.job(job), "--full")
    assert (said.code, "row-7" in said.out) == (4, True), said.out
    assert run_flow(job, REPAIR)["verified"]
    assert kitestring.here("diff", kitestring.job(job)).code == 0
    assert vectors_by_key(job) == right
