"""Questions are embedded as questions wherever they are asked: gate, report, search, evaluate and browse, with a model that has a route for each side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from tasks.commands.browse.job_search import JobSearch
from tasks.commands.browse.search_request import SearchRequest
from tasks.domain.job.parse import parse_job
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import Kitestring, make_job, text_of, write_rows
from tests.builders.models import make_tiny_model

ROWS = 40
TEXTS = [text_of(row) for row in range(ROWS)]
QUESTIONS = ["they have this", "what it was", "one of the two", "who said so"]
PROMPTS = {"query": "the one that is ", "passage": "not used: ", "document": "it was "}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> SentenceTransformer:
    """A model behind each of two routes, with a prompt for each, and made for the dot product."""
    sides = [SentenceTransformer(str(path), device="cpu") for path in (make_tiny_model(tmp_path / "other", seed=11), tiny_model)]
    parts = Router.for_query_document(query_modules=list(sides[0].children()), document_modules=list(sides[1].children()))
    made = SentenceTransformer(modules=[parts], device="cpu", prompts=PROMPTS, similarity_fn_name="dot")
    made.save(str(tmp_path / "model"))
    return SentenceTransformer(str(tmp_path / "model"), device="cpu")


@pytest.mark.server
def test_every_way_of_asking_has_the_librarys_best_row(
    run_flow: RunFlow, kitestring: Kitestring, model: SentenceTransformer, tmp_path: Path
) -> None:
    rows = np.asarray(model.encode_document(TEXTS))
    best = (np.asarray(model.encode_query(QUESTIONS)) @ rows.T).max(axis=1)
    right = (np.asarray(model.encode_query(QUESTIONS)) @ rows.T).argmax(axis=1)
    assert (right != (np.asarray(model.encode_document(QUESTIONS)) @ rows.T).argmax(axis=1)).all()  # a question's own side matters
    asked = [{"query": question, "relevant": [f"row-{row}"]} for question, row in zip(QUESTIONS, right, strict=True)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, asked)))
    write_rows(tmp_path / "rows" / "0.parquet", 0, ROWS)
    gate = {"queries": str(tmp_path / "questions.jsonl"), "at_k": 1, "minimum": 1.0}
    job = make_job(tmp_path, tmp_path / "model", encoder__normalize=False, target__gate=gate, report__examples=4)

    done = run_flow(job)
    assert done["gate"]["modes"][0]["ndcg"]["mean"] == 1.0
    examples = [
        each for each in json.loads(Path(done["report"]).with_suffix(".json").read_text())["examples"] if each["kind"] == "question"
    ]
    assert [each["asked"] for each in examples] == QUESTIONS
    assert np.allclose([each["hits"][0]["score"] for each in examples], best, rtol=1e-4)

    path = kitestring.job(job)
    for question, row, score in zip(QUESTIONS, right, best, strict=True):
        (hit,) = kitestring.here("search", path, question, "-k", "1", "--json").json
        assert (hit["id"], hit["score"]) == (f"row-{row}", pytest.approx(score, rel=1e-4))
    assert kitestring.here("evaluate", path, "--json").json["modes"][0]["ndcg"]["mean"] == 1.0
    with JobSearch(parse_job(job)) as browsed:
        found = [browsed.search(SearchRequest(text=question, k=1)).hits[0] for question in QUESTIONS]
    assert [hit.id for hit in found] == [f"row-{row}" for row in right]
    told = kitestring.here("status", path).out
    assert "rows: prompt 'it was ' (the model's 'document')" in told
    assert "questions: prompt 'the one that is ' (the model's 'query'), route 'query'" in told
