"""Documents as chunks, through whole runs: found whole, changed whole, removed whole."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.milvus.milvus_target import MilvusTarget
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring
from tests.builders.runs import keys_in
from tests.flows.changed_sources.documents import chunks, job_of, words, write_documents

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]


def keys(job: dict[str, Any]) -> list[str]:
    return sorted(keys_in(job["target"]["uri"]))


def stored(job: dict[str, Any], *wanted: str) -> dict[str, dict[str, object]]:
    with closing(MilvusTarget(job["target"]["uri"])) as target:
        collection = target.collection(target.resolve("rows"))
        return collection.values_of(list(wanted), ["document", "chunk", "start", "end", "topic", "text"])


def test_documents_are_embedded_changed_found_and_removed_with_all_their_chunks(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    long = words(70)
    write_documents(tmp_path / "docs" / "a.jsonl", {"a": long, "a#0": words(5, 1), "b": words(28, 2)})
    write_documents(tmp_path / "docs" / "b.jsonl", {"c": words(56, 3), "d": "it of it"})
    job = job_of(tmp_path, tiny_model)
    result = run_flow(job)
    assert keys(job) == sorted([*chunks("a", 5), "a#0#0", *chunks("b", 2), *chunks("c", 4), "d#0"])
    assert (result["rows"]["source"], result["rows"]["embedded"], result["rows"]["loaded"], result["verified"]) == (5, 5, 5, True)
    assert (result["chunks"]["rows"], sum(result["chunks"]["per_document"].values())) == (13, 5)
    found = stored(job, "a#1", "a#0#0")
    second = found["a#1"]
    assert (second["document"], second["chunk"], second["topic"], second["text"]) == ("a", 1, "a", long[second["start"] : second["end"]])
    assert found["a#0#0"]["document"] == "a#0"

    # Search: the best chunk of each document, and its place in the document.
    page = tmp_path / "hits.html"
    asked = kitestring.here("search", kitestring.job(job), str(second["text"]), "-k", 4, "--json", "--html", page)
    best = asked.json
    assert sorted(hit["document"] for hit in best) == sorted({hit["document"] for hit in best})
    assert len(best) == 4
    every = kitestring.here("search", kitestring.job(job), str(second["text"]), "-k", 13, "--json", "--all-chunks").json
    assert sorted(hit["id"] for hit in every) == keys(job)
    marked = next(hit for hit in best if hit["document"] == "a")
    assert f"<mark>{marked['text']}</mark>" in page.read_text()

    # Another run does nothing; a shrunk document, one that came again in another file, and one that went leave nothing behind.
    assert run_flow(job)["rows"]["reused"] == 5
    write_documents(tmp_path / "docs" / "a.jsonl", {"a": words(20, 4), "a#0": words(5, 1)})
    write_documents(tmp_path / "docs" / "c.jsonl", {"c": words(20, 5)})
    result = run_flow(job)
    assert keys(job) == sorted([*chunks("a", 2), "a#0#0", *chunks("c", 2), "d#0"])
    assert (result["rows"]["duplicates"], result["rows"]["loaded"], result["verified"], result["chunks"]["rows"]) == (1, 4, True, 6)
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
    (tmp_path / "docs" / "c.jsonl").unlink()  # the longer one of the other file is whole again
    result = run_flow(job)
    assert keys(job) == sorted([*chunks("a", 2), "a#0#0", *chunks("c", 4), "d#0"])
    assert (result["rows"]["embedded"], result["verified"]) == (0, True)


def test_an_append_leaves_no_chunk_of_a_document_that_came_again_in_a_shorter_form(
    run_flow: RunFlow, kitestring: Kitestring, tmp_path: Path, tiny_model: Path
) -> None:
    write_documents(tmp_path / "docs" / "a.jsonl", {"a": words(70), "b": words(28)})
    job = job_of(tmp_path, tiny_model, target__mode="append", target__allow_shrink=False)
    run_flow(job)
    (tmp_path / "docs" / "a.jsonl").unlink()
    write_documents(tmp_path / "docs" / "b.jsonl", {"a": words(20, 1)})
    result = run_flow(job)
    assert keys(job) == [*chunks("a", 2), *chunks("b", 2)]
    assert result["verified"] is True
    assert kitestring.here("verify", kitestring.job(job), "--full").code == 0
    assert kitestring.here("diff", kitestring.job(job)).code == 0
    assert kitestring.here("diff", kitestring.job(job), "--full").code == 0


def test_a_dry_run_measures_chunks(run_flow: RunFlow, tmp_path: Path, tiny_model: Path) -> None:
    write_documents(tmp_path / "docs" / "a.jsonl", {"a": words(60), "b": words(5)})
    assert run_flow(job_of(tmp_path, tiny_model), dry_run=True)["measured"]["rows"] >= 6
