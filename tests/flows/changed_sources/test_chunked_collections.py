"""What a collection of chunks goes through beside runs: plans, gates, reports, other settings, rollbacks, replays, repairs, other servers and other hosts."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.targets.memory_collection import memory_servers
from tasks.commands.promote_by_hand import roll_back
from tasks.commands.search import Searcher, SearchOptions
from tasks.domain.errors import RunFailed
from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.engine import ENGINES
from tasks.domain.job.parse import parse_job
from tests.builders.engines.hash_encoders import POISON, by_hash
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring
from tests.builders.memory_jobs import REPLAY, a_job, keys_in
from tests.flows.changed_sources.documents import chunks, job_of, words, write_documents

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
REPAIR = "flows.repair.repair_from_seals"
A_QUESTION = {"query": words(14), "relevant": ["a"]}  # the first chunk of a
DOCUMENTS = {"a": words(70), "b": words(28, 2), "c": "it of it"}


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    """Three documents, of which two are longer than a chunk; in memory."""
    write_documents(tmp_path / "docs" / "a.jsonl", DOCUMENTS)
    source = job_of(tmp_path, tiny_model)["source"]
    return a_job(tmp_path, tiny_model, source=source | {"chunks": {"tokens": 16, "overlap": 4}})


def report_of(job: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The newest report, as figures and as a page."""
    newest = max(Path(job["checkpoint"]).glob("*/*/runs/*/report.json"))
    return json.loads(newest.read_text()), newest.with_suffix(".html").read_text()


def rows_in(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    server = memory_servers[job["target"]["uri"]]
    return server.rows[server.aliases["rows"]]


def test_documents_and_chunks_are_estimated_and_reported_with_what_overlap_costs(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any]
) -> None:
    planned = kitestring.here("plan", kitestring.job(job), "--json").json["estimate"]
    assert planned["rows"]["high"] == 3
    assert sum(planned["chunks"]["per_document"].values()) == 3
    assert planned["chunks"]["overlap_tokens"]["high"] > 0
    told = kitestring.here("plan", kitestring.job(job)).out
    assert "(sampled documents by chunks: 1 up to 1, " in told
    assert "; overlap costs " in told

    result, first = run_flow(job), keys_in(job)
    assert len(first) > len(chunks("a", 5)) + len(chunks("b", 2)) + 1, "overlap makes more chunks"
    assert planned["chunks"]["rows"]["low"] <= len(first) <= planned["chunks"]["rows"]["high"]
    figures, page = report_of(job)
    assert (figures["rows"]["source"], figures["chunks"]["rows"]) == (3, len(first))
    assert figures["chunks"]["per_document"] == planned["chunks"]["per_document"]
    assert figures["chunks"]["overlap_tokens"] == result["chunks"]["overlap_tokens"] > 0
    assert f"{len(first)} of 3 documents, up to 8 each; {figures['chunks']['overlap_tokens']} tokens are in two chunks" in page


def test_a_gate_judges_documents_and_other_settings_of_chunks_fill_a_collection_of_their_own(
    run_flow: RunFlow, job: dict[str, Any], tmp_path: Path
) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps(A_QUESTION | {"relevant": ["c"]}))
    gated = job | {"target": job["target"] | {"gate": {"queries": str(questions), "minimum": 1.0, "at_k": 1}}}
    with pytest.raises(RunFailed, match=r"below target\.gate\.minimum"):
        run_flow(gated)
    questions.write_text(json.dumps(A_QUESTION))  # the source's key, whatever chunk is found
    assert run_flow(gated)["rows"]["reused"] == 3
    first = keys_in(job)
    other = job | {"source": job["source"] | {"chunks": {"tokens": 32}}}
    assert run_flow(other)["rows"]["embedded"] == 3
    assert keys_in(other) == [*chunks("a", 3), "b#0", "c#0"]
    roll_back(parse_job(other))
    assert keys_in(job) == first


def test_a_collection_of_chunks_is_repaired_and_replayed_from_the_seals(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any]
) -> None:
    run_flow(job)
    right = {key: (row["text"], row["document"], row["chunk"], row["start"], row["end"]) for key, row in rows_in(job).items()}
    del rows_in(job)["a#1"]
    rows_in(job)["b#0"]["start"] = 7
    listed = kitestring.here("diff", kitestring.job(job), "--full", "--json")
    assert {(found["key"], found["kind"]) for found in listed.json} == {("a#1", "absent"), ("b#0", "start")}
    run_flow(job, REPAIR)
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
    again = job | {"target": job["target"] | {"uri": f"memory://{uuid.uuid4()}"}}
    replayed = run_flow(again, REPLAY)
    assert (replayed["rows"]["embedded"], replayed["rows"]["loaded"], replayed["verified"]) == (0, 3, True)
    for made in (job, again):
        assert {key: (row["text"], row["document"], row["chunk"], row["start"], row["end"]) for key, row in rows_in(made).items()} == right


def test_chunks_on_hosts_of_a_cluster_and_a_document_of_which_one_chunk_cannot_be_embedded(
    run_flow: RunFlow, kitestring: Kitestring, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "sentence-transformers"
    monkeypatch.setitem(ENGINES.known, "fake", "tests.builders.engines.fake_engine:FAKE")
    monkeypatch.setitem(ENCODERS.known, kind, by_hash(kind))
    write_documents(tmp_path / "docs" / "b.jsonl", {"d": f"{words(40, 3)} {POISON} {words(40, 4)}", "e": words(28, 5)})
    job["source"]["chunks"] = {"tokens": 16}
    job["compute"] |= {"engine": {"kind": "fake"}}
    job["failures"] = {"max_quarantined": 0.5}
    result = run_flow(job)
    assert (result["rows"]["source"], result["rows"]["embedded"], result["rows"]["quarantined"]) == (5, 4, 1)
    assert (result["verified"], keys_in(job)) == (True, [*chunks("a", 5), *chunks("b", 2), "c#0", *chunks("e", 2)])
    aside = kitestring.here("quarantine", "list", kitestring.job(job), "--json").json
    assert [(row["id"], row["reason"]) for row in aside] == [("d", "not finite: chunk 2: poison")]


def test_a_server_without_grouping_searches_is_asked_for_more(
    run_flow: RunFlow, job: dict[str, Any], milvus_server: Any, kitestring: Kitestring
) -> None:
    """Milvus 2.3.5."""
    job["source"]["chunks"] = {"tokens": 16}
    job["target"] = {"uri": milvus_server.uri, "collection": f"c_{uuid.uuid4().hex[:10]}"}
    assert run_flow(job)["verified"] is True
    with Searcher(parse_job(job)) as searcher:
        assert [hit.id for hit in searcher.search(words(14), 1)] == ["a#0"]
        best = searcher.search(words(14), 3)
        assert sorted(str(hit.fields["document"]) for hit in best) == ["a", "b", "c"]
        every = searcher.search(words(14), 8, way=SearchOptions(all_chunks=True))
        assert sorted(hit.id for hit in every) == [*chunks("a", 5), *chunks("b", 2), "c#0"]
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
