"""Questions saved into a gate's file: whole or not at all, none twice, the others as they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.adapters.sources.relevance_judgments import read_questions
from tasks.adapters.sources.saved_questions import check_questions, known_questions, save_question
from tasks.domain.errors import BadInput

OTHERS = {
    "q.jsonl": '{"relevant": {"a": 3},  "query": "one"}\n\n{"query": "two", "relevant": ["b"]}',
    "q.csv": 'id,query,note,gain\na,one,"kept\nas it is",3\nb,two,,1',
}


def answers(path: Path) -> dict[str, dict[str, float]]:
    return {each.query: each.relevant for each in read_questions(str(path))}


@pytest.mark.parametrize("name", OTHERS)
def test_a_question_is_appended_once_and_replaced_at_the_next_time(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(OTHERS[name])
    assert save_question(str(path), 'tail, "wind"', ["c", "d,e"], "here")
    assert answers(path) == {"one": {"a": 3}, "two": {"b": 1}, 'tail, "wind"': {"c": 1, "d,e": 1}}
    assert not save_question(str(path), 'tail, "wind"', ["c"], "here")
    assert answers(path)['tail, "wind"'] == {"c": 1}
    assert len(known_questions(str(path), "here")) == 3
    assert OTHERS[name].split("\n\n")[0] in path.read_text()  # the others' lines as they were written
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", OTHERS)
def test_what_a_known_answer_is_worth_stays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(OTHERS[name])
    assert not save_question(str(path), "one", ["a", "z"], "here")
    assert answers(path) == {"one": {"a": 3, "z": 1}, "two": {"b": 1}}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_not_there_yet_is_made(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert known_questions(str(path), "here") == []
    assert save_question(str(path), "one", ["a"], "here")
    assert answers(path) == {"one": {"a": 1}}


def test_saving_the_same_again_writes_nothing_and_a_link_stays_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "q.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    save_question(str(link), "one", ["a"], "here")
    before = path.stat().st_ino
    save_question(str(link), "one", ["a"], "here")
    assert (path.stat().st_ino, link.is_symlink()) == (before, True)


def test_a_broken_file_and_a_failed_write_leave_it_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("not json\n")
    with pytest.raises(BadInput, match="here: line 1 of"):
        save_question(str(path), "one", ["a"], "here")
    assert path.read_text() == "not json\n"

    path.write_text(OTHERS["q.jsonl"])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="cannot be written: No space left"):
        save_question(str(path), "three", ["a"], "here")
    assert path.read_text() == OTHERS["q.jsonl"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_question_without_words_or_answers_is_refused(tmp_path: Path) -> None:
    for query, relevant in ((" ", ["a"]), ("one", [])):
        with pytest.raises(BadInput, match=r"empty|at least one"):
            save_question(str(tmp_path / "q.jsonl"), query, relevant, "here")
    assert not list(tmp_path.iterdir())


def test_a_place_where_nothing_can_be_saved_is_refused_before_anything_is_marked(tmp_path: Path) -> None:
    check_questions(str(tmp_path / "new.jsonl"), "--questions")
    with pytest.raises(BadInput, match=r"--questions: there is no folder '.*none' for '.*none/q.jsonl'"):
        check_questions(str(tmp_path / "none" / "q.jsonl"), "--questions")
    with pytest.raises(BadInput, match=r"--questions: '.*' cannot be read"):
        check_questions(str(tmp_path), "--questions")
    (tmp_path / "q.jsonl").write_text("no question\n")
    with pytest.raises(BadInput, match="line 1 of"):
        check_questions(str(tmp_path / "q.jsonl"), "--questions")
