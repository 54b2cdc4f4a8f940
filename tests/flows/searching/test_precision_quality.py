"""int8 beside float32: both figures of a gate's questions are those of the same rows, ranked exactly, and are in the report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.adapters.checkpoint.part_files import read_part
from tests.builders.corpora.worded import write_questions
from tests.builders.kitestring import Kitestring, make_job, text_of, write_rows
from tests.builders.pages import Tables
from tests.builders.runs import parts_in, vectors_in
from tests.builders.worker.text_encoder import stock
from tests.flows.changed_sources.documents import job_of, words, write_documents

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
Vectors = dict[str, np.ndarray]


def discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(2 + place) for place, gain in enumerate(gains))


def ndcg(asked: list[dict[str, Any]], questions: np.ndarray, rows: Vectors, k: int) -> float:
    """Of vectors of length 1, by the book; a row of a document's chunk counts for the document."""
    found = []
    for question, vector in zip(asked, questions, strict=True):
        best = sorted(rows, key=lambda key: (-float(rows[key] @ vector), key))
        documents = list(dict.fromkeys(document_of(key) for key in best))[:k]
        ideal = sorted(question["relevant"].values(), reverse=True)[:k]
        found.append(discounted([question["relevant"].get(key, 0.0) for key in documents]) / discounted(ideal))
    return float(np.mean(found))


def document_of(key: str) -> str:
    return key.rpartition("#")[0] or key


def spans_in(checkpoint: Path) -> dict[str, tuple[int, int]]:
    """Of each chunk, the characters of its document that it is."""
    tables = [read_part(part.read_bytes())[0] for part in parts_in(checkpoint)]
    columns = [table.select(["id", "start", "end"]).to_pydict() for table in tables]
    return {key: (start, end) for of in columns for key, start, end in zip(of["id"], of["start"], of["end"], strict=True)}


def gate(job: dict[str, Any], asked: list[dict[str, Any]], folder: Path, **settings: Any) -> dict[str, Any]:
    queries = write_questions(folder / "questions.jsonl", asked)
    return job | {"target": job["target"] | {"gate": {"queries": str(queries), **settings}}}


def vectors_of(model: Path, asked: list[dict[str, Any]]) -> np.ndarray:
    return stock(model, [each["query"] for each in asked], prompt_name="query")


def judged(model: Path, queries: list[str], rows: Vectors) -> list[dict[str, Any]]:
    """Questions whose right answers are the first and the third by the vectors of some rows."""
    asked = [{"query": query, "relevant": {}} for query in queries]
    for question, vector in zip(asked, vectors_of(model, asked), strict=True):
        best = sorted(rows, key=lambda key: -float(rows[key] @ vector))
        question["relevant"] = {best[0]: 3.0, best[2]: 2.0}
    return asked


def exact(model: Path, texts: dict[str, str]) -> Vectors:
    return dict(zip(texts, stock(model, list(texts.values())), strict=True))


def test_both_figures_are_those_of_the_same_rows_ranked_exactly_and_kept(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    keys = write_rows(tmp_path / "rows" / "a.parquet", 0, 200)
    texts = dict(zip(keys, map(text_of, range(200)), strict=True))
    float32 = exact(tiny_model, texts)
    asked = judged(tiny_model, [" ".join(texts[key].split()[::2]) for key in keys[::10]], float32)
    asked[1]["relevant"]["no such row"] = 1.0
    plain = make_job(tmp_path, tiny_model, encoder__precision="int8", compute__processes=1)
    job = kitestring.job(gate(plain, asked, tmp_path, at_k=3, float32_rows=180))
    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    found = run.json["precision_quality"]

    # What was compared: of each question the nine nearest in int8, and the rows that are judged.
    int8, questions = vectors_in(tmp_path / "checkpoint"), vectors_of(tiny_model, asked)
    near = {key for vector in questions for key in sorted(int8, key=lambda key: -float(int8[key] @ vector))[:9]}
    pool = (near | {key for each in asked for key in each["relevant"]}) & texts.keys()
    assert (found["questions"], found["of_questions"], found["nearest"]) == (len(asked), len(asked), 9)
    assert (found["rows"], found["of_rows"], found["absent"], found["unread"]) == (len(pool), len(texts), 1, 0)
    assert len(pool) < len(texts)

    # Both figures, by the book; that of int8 is the whole collection's, and that of float32 at least the whole collection's.
    of = {name: found[name]["ndcg"]["mean"] for name in ("searched", "reduced", "float32", "difference")}
    assert of["reduced"] == pytest.approx(ndcg(asked, questions, {key: int8[key] for key in pool}, 3), abs=1e-6)
    assert of["float32"] == pytest.approx(ndcg(asked, questions, {key: float32[key] for key in pool}, 3), abs=1e-6)
    assert of["difference"] == pytest.approx(of["reduced"] - of["float32"])
    assert of["difference"] != 0
    assert of["reduced"] == pytest.approx(of["searched"]) == run.json["gate"]["modes"][0]["ndcg"]["mean"]
    assert of["reduced"] == pytest.approx(ndcg(asked, questions, int8, 3), abs=1e-6)
    assert of["float32"] >= ndcg(asked, questions, float32, 3) - 1e-9

    # In the notes, report.json and the page.
    line = (
        f"nDCG@3 {of['reduced']:.4f} in int8, {of['float32']:.4f} in float32; {len(asked)} questions over {len(pool)} of {len(texts)} rows"
    )
    told = f"{line}, all judged rows of the collection among them; 1 judged key is not in the collection"
    assert f"gate, beside float32: {told}" in run.json["notes"]
    page = Path(run.json["report"])
    assert json.loads(page.with_name("report.json").read_text())["precision_quality"] == found
    shown = Tables(page.read_text()).rows
    table = {row[0]: row[1].split()[0] for row in shown["Retrieval quality beside float32"][1:]}
    assert (table[f"int8, {len(pool)} rows"], table[f"float32, {len(pool)} rows"]) == (f"{of['reduced']:.4f}", f"{of['float32']:.4f}")
    assert ["beside float32", told] in shown["Encoder"]

    # The next run has it from the checkpoint, and other questions are asked anew.
    again = kitestring("run", job, "--json").json
    assert (again["gate"], again["precision_quality"]) == (None, found)
    assert f"gate, beside float32: {told} (measured on {found['at'][:10]})" in again["notes"]
    fewer = kitestring("run", kitestring.job(gate(plain, asked[2:], tmp_path, at_k=3)), "--json").json["precision_quality"]
    assert (fewer["questions"], fewer["absent"], fewer["run"] == found["run"]) == (len(asked) - 2, 0, False)
    assert fewer["rows"] > found["rows"]

    # `evaluate` measures the same, and leaves it where that is asked for.
    questions_again = write_questions(tmp_path / "all.jsonl", asked)
    measured = kitestring.here("evaluate", job, "--float32-rows", 180, "-k", 3, "--queries", questions_again, "--json")
    assert measured.code == 0, measured.err
    assert measured.json["precision_quality"] == {**found, "run": "", "at": measured.json["precision_quality"]["at"]}
    text = kitestring.here("evaluate", job, "--float32-rows", 180, "--queries", questions_again).out
    assert "int8 minus float32" in text
    assert f"{of['difference']:.4f} (" in text
    assert kitestring.here("evaluate", job, "--float32-rows", 0, "--json").json["precision_quality"] is None


@pytest.mark.parametrize("chunks", [False, True])
def test_texts_that_the_collection_does_not_have_come_from_the_source(
    kitestring: Kitestring, tmp_path: Path, tiny_model: Path, chunks: bool
) -> None:
    """In the int8 of GPUs, which a CPU computes as well."""
    texts = {f"d{row}": f"{words(10 + row, row)} {text_of(row)}" for row in range(30)}
    write_documents(tmp_path / "docs" / "a.jsonl", dict(list(texts.items())[:20]))
    write_documents(tmp_path / "docs" / "b.jsonl", dict(list(texts.items())[20:]))
    asked = judged(tiny_model, [texts[key][-30:] for key in list(texts)[::4]], exact(tiny_model, texts))
    plain = job_of(
        tmp_path, tiny_model, target__store_text=False, encoder__precision="int8", compute__backend="torch", compute__processes=1
    )
    if not chunks:
        del plain["source"]["chunks"]
    job = kitestring.job(gate(plain, asked, tmp_path, at_k=2))
    run = kitestring("run", job, "--json")
    assert run.code == 0, run.err
    found, int8 = run.json["precision_quality"], vectors_in(tmp_path / "checkpoint")
    rows = {key: texts[document_of(key)][start:end] for key, (start, end) in spans_in(tmp_path / "checkpoint").items()} if chunks else texts
    assert rows.keys() == int8.keys()
    assert len(rows) > 60 if chunks else len(rows) == 30
    questions = vectors_of(tiny_model, asked)
    pool = {key for key in rows if any(document_of(key) in each["relevant"] for each in asked)}
    for vector in questions:  # every document is near; of each the best chunk
        best = sorted(int8, key=lambda key: -float(int8[key] @ vector))
        pool |= {next(key for key in best if document_of(key) == document) for document in texts}
    assert (found["questions"], found["rows"], found["absent"], found["unread"]) == (len(asked), len(pool), 0, 0)
    for name, vectors in (("reduced", int8), ("float32", exact(tiny_model, rows))):
        due = ndcg(asked, questions, {key: vectors[key] for key in pool}, 2)
        assert found[name]["ndcg"]["mean"] == pytest.approx(due, abs=1e-6), name
        assert due > 0.1
    evaluated = kitestring.here("evaluate", job, "--json").json["precision_quality"]
    assert {**evaluated, "run": found["run"], "at": found["at"]} == found

    # Without the source there is no comparison, and the other figures are there.
    (tmp_path / "docs").rename(tmp_path / "elsewhere")
    alone = kitestring.here("evaluate", job, "--json")
    assert (alone.code, alone.json) == (0, {**run.json["gate"], "precision_quality": None})
    assert "the questions were not compared with float32: " in alone.err
    assert kitestring.here("evaluate", job, "--float32-rows", 50).code == 2
