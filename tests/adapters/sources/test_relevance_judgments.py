"""A gate's questions, as people write them down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.domain.errors import BadInput


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_json_lines_with_lists_or_with_gains(tmp_path: Path) -> None:
    path = written(tmp_path, "q.jsonl", '{"query": "one", "relevant": ["a", "b"]}\n\n{"query": "two", "relevant": {"c": 2.5}}\n')
    assert [(q.query, q.relevant) for q in read_questions(path)] == [("one", {"a": 1, "b": 1}), ("two", {"c": 2.5})]


def test_csv_has_a_line_for_each_answer(tmp_path: Path) -> None:
    path = written(tmp_path, "q.csv", 'query,id,gain\none,a,2\none,"b,c",\ntwo,d,1\n')
    assert [(q.query, q.relevant) for q in read_questions(path)] == [("one", {"a": 2, "b,c": 1}), ("two", {"d": 1})]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("q.jsonl", "", "has no question"),
        ("q.jsonl", '{"query": "one", "relevant": ["a"]}\n{"query": "two"}', "line 2"),
        ("q.jsonl", '{"query": "one", "relevant": []}', "line 1"),
        ("q.jsonl", '{"query": " ", "relevant": ["a"]}', "line 1"),
        ("q.jsonl", '{"query": "one", "relevant": "a"}', "line 1"),
        ("q.jsonl", "not json", "line 1"),
        ("q.csv", "text,id\none,a\n", "columns query, id"),
        ("q.csv", "query,id,gain\none,a,much\n", "line 2"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as refused:
        read_questions(written(tmp_path, name, text))
    assert "target.gate.queries" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no file '.*q\.jsonl'"):
        read_questions(str(tmp_path / "q.jsonl"))
