"""The page of a real run: every section is there, and its figures are those of the run."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tasks.stages.report
from tasks.run.context import new_run_id
from tasks.run.plan import Plan
from tasks.run.promotion.report_samples import ReportSamples, show_rows
from tests.builders.inprocess import RunFlow
from tests.builders.kitestring import make_job, text_of
from tests.builders.pages import Page, Tables

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]
HOSTILE = "<script>alert('row')</script><img src=x onerror=alert(1)>"
ROWS = 240


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> dict[str, Any]:
    """Rows in three languages, one of them hostile throughout and one without a text, and a gate that asks two questions."""
    keys, texts = [f"row-{n}" for n in range(ROWS)], [text_of(n) for n in range(ROWS)]
    languages = [["en", "de", HOSTILE][n % 3] for n in range(ROWS)]
    keys[0], texts[0], texts[1] = HOSTILE, f"{HOSTILE} {text_of(0)}", ""
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table({"id": keys, "text": texts, "url": keys, "lang": languages}), tmp_path / "rows" / "a.parquet")
    questions = [{"query": f"{HOSTILE} {n}", "relevant": ["row-7"]} for n in range(2)]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    settings = {"source__metadata": ["url", "lang"], "target__gate": {"queries": str(tmp_path / "questions.jsonl")}}
    return make_job(tmp_path, tiny_model, report={"price_per_hour": 3.6, "examples": 2}, **settings)


def reports(job: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Page and figures of each run, the oldest first."""
    folders = sorted(Path(job["checkpoint"]).glob("*/*/runs/*"))
    return [((folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())) for folder in folders]


def test_the_page_of_a_run_has_every_section_with_its_figures(run_flow: RunFlow, job: dict[str, Any]) -> None:
    run_flow(job)
    ((html, figures),) = reports(job)
    tables, page = Tables(html).rows, Page(html)
    embedded = ROWS - 1
    assert tables["Rows by outcome"][1:] == [
        ["embedded by this run", f"{embedded}"],
        ["reused from earlier seals", "0"],
        ["duplicates left out", "0"],
        ["quarantined", "1"],
    ]
    assert {row[0] for row in tables["Time by stage"]} >= {"encode", "load", "verify"}
    assert [row[0] for row in tables["Time by work of the ranks"][1:]] == ["encoding", "tokenising", "writing parts"]
    assert sum(int(row[1]) for row in tables["Text lengths"][1:]) == embedded
    (of_texts, tokens), (padding, wasted) = tables["Padding"][1:]
    assert (of_texts, padding, int(tokens.replace(",", ""))) == ("tokens of texts", "padding", figures["tokens"])
    assert int(wasted.replace(",", "")) == figures["ranks"][0]["padded"] - figures["tokens"] > 0
    assert tables["Slowest shards"][1][0] == "a.parquet row groups 0-0"
    assert {row[0] for row in tables["Peak memory"][1:]} == {"flow", "rank 0"}
    assert tables["Quarantine reasons"][1:] == [["empty text", "1"]]
    assert tables["Quarantined rows"][1] == ["row-1", "empty text", "a.parquet row groups 0-0", "1"]
    assert sorted(map(tuple, tables["A map of the vectors"][1:])) == [(HOSTILE, "80"), ("de", "79"), ("en", "80")]
    seconds = figures["cost"]["hours"] * 3600
    assert figures["cost"]["dollars"] == pytest.approx(seconds / 1000)
    assert tables["Cost"][1][:2] == ["rows encoded", f"{embedded}"]
    assert figures["cost"]["rows_per_dollar"] == pytest.approx(embedded / figures["cost"]["dollars"])
    assert figures["before"] is None
    assert figures["left_out"] == {}
    asked = [(example["kind"], len(example["hits"])) for example in figures["examples"]]
    assert asked == [("question", 4), ("question", 4), ("row", 4), ("row", 4)]
    assert all(example["asked"] not in [hit["id"] for hit in example["hits"]] for example in figures["examples"])
    assert all(hit["fields"]["lang"] in ("en", "de", HOSTILE) for example in figures["examples"] for hit in example["hits"])
    assert "Rows like " in page.text
    assert HOSTILE in page.text
    assert not {tag for tag, _ in page.tags} & {"script", "img", "a", "link", "iframe", "object"}


def test_the_next_run_is_compared_with_the_one_before(run_flow: RunFlow, job: dict[str, Any]) -> None:
    job["report"]["examples"] = 0
    run_flow(job)
    run_flow(job)
    (_, first), (html, second) = reports(job)
    tables = Tables(html).rows["Compared with the previous run"]
    assert ["encoded", "0", f"{ROWS - 1}", f"-{ROWS - 1}"] in tables
    assert ["reused", f"{ROWS - 1}", "0", f"+{ROWS - 1}"] in tables
    assert ["verified", "yes", "yes", ""] in tables
    assert (second["before"]["run"], second["before"]["rows"]) == (first["run"], first["rows"])
    assert (second["projection"], second["examples"]) == (None, [])
    assert "Vectors and example searches" not in html


def test_a_run_whose_rows_cannot_be_shown_ends_well_and_says_why(
    run_flow: RunFlow, job: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removes the parts between the proof and the report, and again when they were mended."""

    def show_without_parts(plan: Plan, *others: Any) -> ReportSamples:
        for part in Path(job["checkpoint"]).rglob("part-*"):
            part.unlink()
        return show_rows(plan, *others)

    monkeypatch.setattr(tasks.stages.report, "show_rows", show_without_parts)
    assert run_flow(job)["verified"]
    ((html, figures),) = reports(job)
    assert "a sealed part is missing" in figures["left_out"]["projection"]
    assert Tables(html).rows["Omitted from this page"][0][0] == "projection"
    assert Tables(html).rows["Rows by outcome"][1] == ["embedded by this run", f"{ROWS - 1}"]


def test_runs_that_follow_each_other_within_a_second_are_in_order() -> None:
    now = dt.datetime(2026, 1, 2, 3, 4, 5, 999_000, tzinfo=dt.UTC)
    ids = [new_run_id(now - dt.timedelta(milliseconds=ago)) for ago in (1_100, 990, 101, 1, 0)]
    assert ids == sorted(ids)
