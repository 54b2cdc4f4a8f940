"""A corpus that is found by meaning and by words: one collection holds both, whatever fills it and wherever the alias goes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.milvus.collection_schema import build_schema
from tasks.adapters.milvus.milvus_target import MilvusTarget
from tasks.domain.errors import BadInput, RunFailed
from tests.builders.corpora.worded import Passage, make_meaning_model, passages, questions, write_passages, write_questions
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job
from tests.builders.memory_jobs import REPLAY

Job = dict[str, Any]
SOME = 40  # questions of each half, once the gate has asked all of them


@pytest.fixture(scope="session")
def meaning_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_meaning_model(tmp_path_factory.mktemp("models") / "meaning")


@pytest.fixture
def corpus(tmp_path: Path) -> list[Passage]:
    found = passages()
    write_passages(tmp_path / "rows" / "a.parquet", found[:1_000])
    write_passages(tmp_path / "rows" / "b.parquet", found[1_000:])
    return found


@pytest.fixture
def plain(tmp_path: Path, meaning_model: Path, corpus: list[Passage]) -> Job:
    return make_job(tmp_path, meaning_model, compute__processes=1, source__metadata=["number"], target__mode="mirror")


def changed(job: Job, **target: Any) -> Job:
    return job | {"target": job["target"] | target}


def live(job: Job) -> str | None:
    with closing(MilvusTarget(job["target"]["uri"])) as target:
        return target.resolve("rows")


def found(kitestring: Kitestring, job: Job, *arguments: object) -> Any:
    said = kitestring.here("search", kitestring.job(job), *arguments, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_found_by_words_as_well_through_gate_mirror_rollback_and_replay_both_together_beat_either(
    run_flow: RunFlow, kitestring: Kitestring, plain: Job, corpus: list[Passage], tmp_path: Path
) -> None:
    job, asked = changed(plain, full_text="on"), questions()
    run_flow(plain)
    before = live(plain)
    _nothing_by_words_yet(kitestring, job)

    few = write_questions(tmp_path / "few.jsonl", asked["meaning"][:20])
    everything = write_questions(tmp_path / "all.jsonl", [each for some in asked.values() for each in some])
    with pytest.raises(RunFailed, match=r"nDCG@10 by text is 0\.\d+, below target\.gate\.minimum"):
        run_flow(changed(job, gate={"queries": str(few), "mode": "text", "minimum": 0.9}))
    assert live(job) == before
    first = run_flow(changed(job, gate={"queries": str(everything), "mode": "hybrid", "minimum": 0.9}))
    assert (first["rows"]["embedded"], first["verified"], live(job) != before) == (0, True, True)  # from the same seals, beside the other
    dense, text, hybrid = (of["ndcg"]["mean"] for of in first["gate"]["modes"])
    assert hybrid > max(dense, text) + 0.1
    assert [note.split(" nDCG")[0] for note in first["notes"] if note.startswith("gate, ")] == [
        *(f"gate, 200 questions: {mode}" for mode in ("dense", "text", "hybrid")),
        "gate, current collection: dense",
    ]
    _searched_as_asked(kitestring, job, plain, corpus)

    answers = {each["relevant"][0] for some in asked.values() for each in some}
    gone = [each for each in corpus[1_000:] if each.key not in answers][:300]
    write_passages(tmp_path / "rows" / "b.parquet", [each for each in corpus[1_000:] if each not in gone])
    write_passages(tmp_path / "rows" / "c.parquet", [each._replace(key=f"new-{each.key}") for each in gone[:100]])
    mirrored = run_flow(job)
    assert (mirrored["rows"]["removed"], mirrored["verified"]) == (300, True)
    assert found(kitestring, job, gone[0].text, "--mode", "text", "-k", "1")[0]["id"] == f"new-{gone[0].key}"
    _both_beat_either(kitestring, job, tmp_path)

    assert kitestring.here("rollback", kitestring.job(job)).code == 0
    assert live(job) == before
    assert kitestring.here("promote", kitestring.job(job)).code == 0
    assert live(job) != before
    _both_beat_either(kitestring, job, tmp_path)

    elsewhere = changed(job, uri=str(tmp_path / "elsewhere.db"))
    replayed = run_flow(elsewhere, REPLAY)
    assert (replayed["rows"]["embedded"], replayed["verified"]) == (0, True)
    _both_beat_either(kitestring, elsewhere, tmp_path)


def _nothing_by_words_yet(kitestring: Kitestring, job: Job) -> None:
    verified = kitestring.here("verify", kitestring.job(job))
    assert (verified.code, "which has no full text, and the job asks for full text" in verified.out) == (4, True), verified.out
    early = kitestring.here("search", kitestring.job(job), "anything")
    assert (early.code, "has no full text, and the job asks for" in early.err) == (2, True), early.err


def _searched_as_asked(kitestring: Kitestring, job: Job, plain: Job, corpus: list[Passage]) -> None:
    by_meaning, by_number = (some[0] for some in questions().values())
    ours = next(each for each in corpus if each.key == by_number["relevant"][0])
    assert {hit["number"] for hit in found(kitestring, job, ours.number, "--mode", "text", "-k", "5")} == {ours.number}
    assert found(kitestring, job, by_meaning["query"], "--mode", "text") == []
    assert found(kitestring, job, by_meaning["query"], "-k", "1")[0]["id"] == by_meaning["relevant"][0]
    both = found(kitestring, job, by_number["query"], "--explain", "--filter", f'number == "{ours.number}"')
    assert ours.key in {hit["id"] for hit in both}
    assert sorted(hit["ranks"]["words"] for hit in both) == [1, 2, 3, 4, 5]
    assert 1 in {hit["ranks"]["meaning"] for hit in both}
    _searched_by_the_application(kitestring, job, by_number["query"])
    page = kitestring.folder / "page.html"
    table = kitestring.here("search", kitestring.job(job), by_number["query"], "--explain", "--weights", "0.3,0.7", "--html", page)
    assert [word in table.out.splitlines()[0] for word in ("score", "meaning", "words")] == [True] * 3
    assert "rank by words" in page.read_text()
    refused = kitestring.here("search", kitestring.job(plain), ours.number, "--mode", "text")
    assert "has no full text: set target.full_text: on" in refused.err


def _searched_by_the_application(kitestring: Kitestring, job: Job, words: str) -> None:
    code = kitestring.here("status", kitestring.job(job), "--json").json["code"]
    ours = {mode: found(kitestring, job, words, "--mode", mode, "-k", "8") for mode in ("hybrid", "text")}
    application: dict[str, Any] = {}
    exec(code, application)  # opens the file, which the commands above have let go of
    for search, mode in (("search", "hybrid"), ("search_text", "text")):
        theirs = {hit["id"]: abs(hit["distance"]) for hit in application[search](words, k=8)}
        assert theirs == pytest.approx({hit["id"]: hit["score"] for hit in ours[mode]}, abs=1e-3)


def _both_beat_either(kitestring: Kitestring, job: Job, folder: Path) -> None:
    halves = []
    for half, all_asked in questions().items():
        asked = all_asked[:SOME]
        file = write_questions(folder / f"{half}.jsonl", asked)
        said = kitestring.here("evaluate", kitestring.job(job), "--queries", file, "--json")
        assert said.code == 0, said.err
        measured = json.loads(said.out)
        assert measured["questions"] == len(asked)
        halves.append([of["ndcg"]["mean"] for of in measured["modes"]])
    for dense, text, hybrid in halves:
        assert hybrid >= max(dense, text), halves
    dense, text, hybrid = map(sum, zip(*halves, strict=True))
    assert hybrid > max(dense, text) + 0.2, halves


def test_a_sparse_field_that_is_gone_is_found_and_no_run_loads_into_what_is_left(
    run_flow: RunFlow, kitestring: Kitestring, plain: Job, tmp_path: Path
) -> None:
    """Newer servers drop a field of a collection that is there. Milvus Lite does not: it is made anew without, as it was described."""
    job = changed(plain, full_text="on")
    write_passages(tmp_path / "rows" / "b.parquet", passages()[1_000:1_050])
    write_passages(tmp_path / "rows" / "a.parquet", passages()[:50])
    run_flow(job)
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
    name = live(job)
    assert name
    with closing(MilvusTarget(job["target"]["uri"])) as target:
        collection, client = target.collection(name), target._connection.client
        described, spec = collection._described(), collection.describe()
        assert described
        assert spec
        client.load_collection(name)
        rows = client.query(name, filter='id >= ""', output_fields=["id", "vector", "text", "number", "shard"])
        client.drop_alias("rows")
        client.drop_collection(name)
        without = build_schema(spec.model_copy(update={"full_text": None}))
        client.create_collection(name, schema=without, properties=described["properties"])
        client.upsert(name, rows)
        client.create_alias(name, "rows")
    said = kitestring.here("verify", kitestring.job(job))
    assert (said.code, "was created with full text and lacks the field 'sparse': drop it" in said.out) == (4, True), said.out
    with pytest.raises(BadInput, match="lacks the field 'sparse': drop it, and `kitestring replay` fills it again"):
        run_flow(job)
