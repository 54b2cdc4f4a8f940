"""The gate's measures are those of the literature, and decide as its settings say."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import ndcg_score

from tasks.domain.job.gate import Gate, GateScores, Question, ndcg_at, question_scores, recall_at, reciprocal_rank_at, why_not


@pytest.mark.parametrize("seed", range(20))
def test_ndcg_is_what_scikit_learn_computes(seed: int) -> None:
    chance = random.Random(seed)
    keys = [f"k{n}" for n in range(30)]
    gains = {key: float(chance.choice([0, 0, 1, 2, 3])) for key in keys} | {"k0": 1.0}
    ranked = chance.sample(keys, len(keys))
    scores = [len(keys) - ranked.index(key) for key in keys]
    for k in (1, 5, 10, 30):
        assert ndcg_at(ranked, gains, k) == pytest.approx(ndcg_score([[gains[key] for key in keys]], [scores], k=k))


def test_a_perfect_answer_is_one_and_a_useless_one_is_zero() -> None:
    assert ndcg_at(["a", "b", "x"], {"a": 2, "b": 1}, 10) == 1
    assert ndcg_at(["x", "y"], {"a": 1}, 10) == 0
    assert ndcg_at([], {"a": 1}, 10) == 0
    assert ndcg_at(["x", "a"], {"a": 1}, 1) == 0  # too late
    assert ndcg_at(["a", "a", "b"], {"a": 1, "b": 1}, 2) == 1  # a key that comes twice counts once


def test_recall_is_the_share_of_what_was_wanted() -> None:
    assert recall_at(["a", "x", "b"], {"a": 1, "b": 1, "c": 1, "d": 0}, 3) == pytest.approx(2 / 3)
    assert recall_at(["a", "x", "b"], {"a": 1, "b": 1, "c": 1}, 1) == pytest.approx(1 / 3)


def test_the_reciprocal_rank_is_that_of_the_first_relevant_hit() -> None:
    assert reciprocal_rank_at(["x", "a", "b"], {"a": 1, "b": 2}, 10) == 1 / 2
    assert reciprocal_rank_at(["x", "x", "a"], {"a": 1}, 10) == 1 / 2  # a key that comes twice counts once
    assert reciprocal_rank_at(["x", "a"], {"a": 1}, 1) == 0
    assert reciprocal_rank_at(["n", "a"], {"n": 0, "a": 1}, 10) == 1 / 2  # judged to be worth nothing


def test_a_question_has_all_three_measures() -> None:
    assert question_scores(["x", "a"], Question(query="one", relevant={"a": 1}), 2) == (pytest.approx(0.6309, abs=1e-4), 1.0, 0.5)


def of(ndcg: float, collection: str = "new") -> GateScores:
    return GateScores(collection=collection, questions=3, at_k=10, ndcg=ndcg, recall=0.5)


@pytest.mark.parametrize(
    ("settings", "new", "old", "reason"),
    [
        ({}, 0.9, None, None),
        ({"minimum": 0.9}, 0.89, None, "below target.gate.minimum (0.9)"),
        ({"minimum": 0.9}, 0.9, None, None),
        ({}, 0.88, 0.9, None),  # within the drop that is allowed
        ({}, 0.87, 0.9, "that of 'old' 0.9000"),
        ({"max_drop": 0}, 0.8999, 0.9, "target.gate.max_drop"),
        ({"max_drop": 0.5}, 0.5, 0.9, None),
    ],
)
def test_a_collection_that_is_not_good_enough_does_not_take_over(settings, new, old, reason) -> None:
    said = why_not(Gate(queries="q", **settings), of(new), of(old, "old") if old is not None else None)
    assert (said is None) if reason is None else (said is not None and reason in said)


def test_a_refusal_names_the_way_to_search_that_was_not_good_enough() -> None:
    scores = GateScores(collection="new", questions=3, at_k=10, mode="hybrid", ndcg=0.5, recall=0.5)
    assert (
        why_not(Gate(queries="q", mode="hybrid", minimum=0.9), scores, None)
        == "nDCG@10 by hybrid is 0.5000, below target.gate.minimum (0.9)"
    )
