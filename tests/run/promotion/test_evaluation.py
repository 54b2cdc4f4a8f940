"""A collection is measured by meaning, by words and by both; the interval says how far other questions might lead."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tasks.adapters.targets.memory_target import MemoryTarget
from tasks.domain.errors import BadInput
from tasks.domain.job.gate import Question
from tasks.domain.job.index import FullText
from tasks.domain.ports import Collection
from tasks.domain.target.full_text import Fusion
from tasks.run.promotion.evaluation import intervals, measure_quality
from tasks.run.promotion.search_modes import check_mode, explain
from tests.builders.collections import part_of, spec_of, vectors_in

PART = part_of(["a", "b", "c"], text=["part e1", "part e2", "other e3"])
QUESTIONS = [Question(query="e1", relevant={"a": 1}), Question(query="nothing", relevant={"c": 1})]


def opened(full_text: FullText | None) -> Collection:
    made = MemoryTarget(f"memory://{uuid.uuid4()}").collection("c")
    made.ensure(spec_of("c", full_text=full_text))
    made.upsert(PART)
    return made


def test_each_way_has_its_measures_and_a_collection_of_vectors_alone_has_one_way() -> None:
    vectors = vectors_in(PART)[[1, 2]]  # the first question is near the wrong row
    made = opened(FullText())
    found = measure_quality(made, spec_of("c", full_text=FullText()), vectors, QUESTIONS, 1, fusion=Fusion(weights=(0.1, 0.9)))
    assert [(of.mode, of.ndcg.mean, of.mrr.mean) for of in found.modes] == [("dense", 0.5, 0.5), ("text", 0.5, 0.5), ("hybrid", 1.0, 1.0)]
    assert found.scores("hybrid").ndcg == 1.0
    assert found.lines[0] == "dense nDCG@1 0.5000 (0.0000 to 1.0000), recall@1 0.5000 (0.0000 to 1.0000), MRR 0.5000 (0.0000 to 1.0000)"
    plain = measure_quality(opened(None), spec_of("c"), vectors, QUESTIONS, 1)
    assert [of.mode for of in plain.modes] == ["dense"]


def test_hits_are_explained_by_their_rank_on_either_side() -> None:
    made, spec, vector = opened(FullText()), spec_of("c", full_text=FullText()), vectors_in(PART)[1:2]
    (hits,) = made.search_hybrid(vector, ["e1"], 3, Fusion())
    told = {hit.id: (hit.by_meaning, hit.by_words) for hit in explain(made, spec, hits, vector, "e1")}
    assert (told["b"], told["a"][1], {rank for rank, _ in told.values()}) == ((1, None), 1, {1, 2, 3})


def test_a_way_that_a_collection_lacks_is_refused_with_the_setting_that_brings_it() -> None:
    assert [check_mode(spec_of("c", full_text=how), None, "--mode") for how in (None, FullText())] == ["dense", "hybrid"]
    with pytest.raises(
        BadInput, match=r"--mode text: collection 'c' has no full text: set target\.full_text: on, and `kitestring run` builds one"
    ):
        check_mode(spec_of("c"), "text", "--mode")


def test_an_interval_is_that_of_the_mean_of_many_samples_and_the_same_each_time() -> None:
    scores = np.random.default_rng(1).random((400, 3))
    first, second = intervals(scores), intervals(scores)
    assert first == second
    for column, interval in enumerate(first):
        error = 1.96 * scores[:, column].std() / np.sqrt(len(scores))  # what theory says of a mean
        assert interval.mean == pytest.approx(scores[:, column].mean())
        assert (interval.low, interval.high) == (
            pytest.approx(interval.mean - error, abs=0.01),
            pytest.approx(interval.mean + error, abs=0.01),
        )
    assert intervals(np.ones((1, 3)))[0].low == 1.0
