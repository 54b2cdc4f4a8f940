"""Search by words: one behaviour for the in-memory twin and Milvus Lite, both ways in."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.adapters.milvus.milvus_collection import MilvusCollection
from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText
from tasks.domain.ports import Collection
from tasks.domain.target.full_text import Fusion
from tests.builders.collections import Open, part_of, spec_of, vectors_in

WORDS = FullText()
TEXTS = ["The pump of part E1234-B leaks", "A valve, part E1235-B", "the Pump pump pump", "", "Über die Größe"]
KEYS = list("abcde")


pytestmark = pytest.mark.parametrize("opening", ["memory", "lite", "lite rows"], indirect=True)


@pytest.fixture
def worded(opening: Open, name: str) -> Collection:
    made = opening(name)
    made.ensure(spec_of(name, full_text=WORDS))
    made.upsert(part_of(KEYS, text=TEXTS))
    made.flush_and_index()
    return made


def ids(answers: list[list]) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in answers]


def test_rows_are_found_by_words_the_best_first_and_only_those_that_have_any(worded: Collection, opening: Open, name: str) -> None:
    assert opening(name).describe() == spec_of(name, full_text=WORDS)
    assert ids(worded.search_text(["e1234", "PUMP", "größe", "", "absent"], 5)) == [["a"], ["c", "a"], ["e"], [], []]
    (hits,) = worded.search_text(["part valve"], 1, fields=["text", "year"])
    assert (hits[0].id, hits[0].fields) == ("b", {"text": TEXTS[1], "year": 2001})
    scores = [hit.score for hit in worded.search_text(["part valve"], 5)[0]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


def test_the_words_of_a_row_change_with_it_and_go_with_it(worded: Collection) -> None:
    worded.upsert(part_of(["a"], text=["Something else"], shard="s2"))
    assert ids(worded.search_text(["E1234", "something"], 5)) == [[], ["a"]]
    worded.delete_shard("s2")
    assert ids(worded.search_text(["something"], 5)) == [[]]


def test_what_is_compared_is_the_rows_and_not_what_the_server_made_of_them(worded: Collection) -> None:
    assert worded.compare(part_of(KEYS, text=TEXTS)).differences == ()
    assert [each.key for each in worded.compare(part_of(KEYS, text=[*TEXTS[:4], "other"])).differences] == ["e"]


def test_a_text_that_is_cut_is_counted_and_found_by_what_is_left_of_it(worded: Collection) -> None:
    assert worded.upsert(part_of(["long"], text=["Q77 " + "ü" * 40_000])) == 1
    assert ids(worded.search_text(["q77"], 5)) == [["long"]]


def test_both_in_one_request_find_what_either_finds(worded: Collection) -> None:
    queries = vectors_in(part_of(KEYS))[[1, 4]]
    answers = worded.search_hybrid(queries, ["E1234", "absent"], 5, Fusion(rrf_k=1), fields=["text"])
    by_meaning = ids(worded.search(queries[:1], 5))[0]
    worth = {key: 1 / (1 + rank) + (0.5 if key == "a" else 0) for rank, key in enumerate(by_meaning, 1)}
    assert [(hit.id, pytest.approx(hit.score)) for hit in answers[0]] == sorted(worth.items(), key=lambda each: -each[1])
    assert (answers[1][0].id, answers[1][0].fields) == ("e", {"text": TEXTS[4]})


def test_with_weights_one_side_can_be_all(worded: Collection) -> None:
    query = vectors_in(part_of(KEYS))[1:2]
    assert ids(worded.search_hybrid(query, ["E1234"], 1, Fusion(weights=(0.0, 1.0)))) == [["a"]]
    assert ids(worded.search_hybrid(query, ["E1234"], 1, Fusion(weights=(1.0, 0.0)))) == [["b"]]


def test_rows_are_found_by_their_own_words_unless_they_have_none(worded: Collection) -> None:
    assert worded.found_by_words(dict(zip(KEYS, TEXTS, strict=True))) == {"a", "b", "c", "e"}
    assert worded.found_by_words({"absent": "pump", "b": "leaks"}) == set()
    assert worded.found_by_words({}) == set()


def test_filters_go_with_words_and_with_both(worded: Collection) -> None:
    if not isinstance(worded, MilvusCollection):
        pytest.skip("the twin has no filters")
    where = {"expression": "year > 2000"}
    assert ids(worded.search_text(["pump part"], 5, **where)) == [["c", "b"]] or ids(worded.search_text(["pump part"], 5, **where)) == [
        ["b", "c"]
    ]
    found = worded.search_hybrid(np.ones((1, 8), np.float32), ["pump part"], 5, Fusion(), **where)
    assert sorted(ids(found)[0]) == list("bcde")


def test_a_collection_with_and_one_without_full_text_are_two(worded: Collection, opening: Open, name: str) -> None:
    with pytest.raises(BadInput, match=r"full text .*lowercase.*, the job none"):
        opening(name).check(spec_of(name))
    assert worded.lost() == []
