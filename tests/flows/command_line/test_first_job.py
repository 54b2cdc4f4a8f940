"""`kitestring init`: from a folder to a job that runs at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flows.command_line import first_job
from flows.command_line.first_job import make_job_file
from flows.job_file import read_job
from tasks.domain.errors import BadInput
from tests.builders.kitestring import Kitestring


def corpus(folder: Path) -> Path:
    (folder / "docs").mkdir()
    rows = [{"id": n, "title": f"Kite {n}", "text": f"A kite flies in the lightest wind, number {n}", "year": 2000 + n} for n in range(30)]
    (folder / "docs" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "docs"


@pytest.mark.server
def test_what_it_writes_is_planned_and_run_as_it_is(kitestring: Kitestring, tmp_path: Path, tiny_model: Path) -> None:
    corpus(kitestring.folder)
    written = kitestring("init", "docs", "--yes", "--output", "first.yaml")
    assert written.code == 0, written.err
    assert "docs: 1 file of kind jsonl" in written.err
    assert "next: kitestring plan first.yaml; kitestring run first.yaml" in written.out
    tiny = ("--set", f"encoder.model={tiny_model}")
    assert "30 to encode" in kitestring("plan", "first.yaml", *tiny).out
    ran = kitestring("run", "first.yaml", *tiny)
    assert ran.code == 0, ran.err
    assert "30 of 30 rows are searchable, verified" in ran.out
    shown = kitestring("status", "first.yaml", *tiny, "--json").json["code"]
    asked = "import json\nprint(json.dumps([[hit['id'], hit['distance']] for hit in search('the lightest wind', k=3)]))\n"
    application = subprocess.run([sys.executable, "-c", shown + asked], cwd=kitestring.folder, capture_output=True, text=True, check=False)
    assert application.returncode == 0, application.stderr
    hits = kitestring("search", "first.yaml", "the lightest wind", "-k", "3", "--json", *tiny).json
    assert json.loads(application.stdout) == [[hit["id"], pytest.approx(hit["score"], abs=1e-3)] for hit in hits]
    again = kitestring("init", "docs", "--yes", "--output", "first.yaml")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "first.yaml' already exists" in again.err


def test_a_person_is_asked_and_may_answer_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"Column": ["nonsense", "text"], "Key": ["-"], "Milvus": ["http://127.0.0.1:19530"], "Checkpoint": ["s3://vectors/docs"]}
    monkeypatch.setattr(typer, "prompt", lambda question, **_: answers[question.split()[0]].pop(0))
    monkeypatch.setattr(first_job.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(first_job.sys.stderr, "isatty", lambda: True, raising=False)
    make_job_file(str(corpus(tmp_path)), tmp_path / "job.yaml", target=None, corpus="kites", yes=False, force=False)
    job = read_job(tmp_path / "job.yaml", None)
    assert not any(answers.values())
    assert job.source.named.key is None
    assert (job.source.named.content, job.source.scalars) == (["text"], ["id", "title", "year"])
    assert (job.target.uri, job.checkpoint, job.corpus, job.target.collection) == (
        "http://127.0.0.1:19530",
        "s3://vectors/docs",
        "kites",
        "kites",
    )


def test_a_wrong_answer_writes_nothing(tmp_path: Path) -> None:
    folder = corpus(tmp_path)
    for wrong in ({"target": "https://host/mydb"}, {"corpus": "no such name!"}):
        with pytest.raises(BadInput):
            make_job_file(str(folder), tmp_path / "job.yaml", **{"target": None, "corpus": None, **wrong}, yes=True, force=False)
    with pytest.raises(BadInput, match="name the location of the data"):
        make_job_file(None, tmp_path / "job.yaml", target=None, corpus=None, yes=True, force=False)
    assert not (tmp_path / "job.yaml").exists()
