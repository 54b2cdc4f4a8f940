"""Search by words: what a job may ask for, which server has it, and how two lists of hits become one."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tasks.domain.errors import BadInput
from tasks.domain.job.index import FullText, Server
from tasks.domain.job.parse import parse_job
from tasks.domain.target.collection import collection_name
from tasks.domain.target.full_text import Fusion, check_full_text, fuse

STANDARD = {"tokenizer": "standard", "filter": ["lowercase"]}
OTHER = FullText(analyzer={"type": "english"})


@pytest.mark.parametrize(
    ("written", "made"),
    [
        ("off", None),
        ("false", None),
        ("on", STANDARD),
        ("true", STANDARD),
        ('"on"', STANDARD),
        ("{analyzer: {type: english}}", {"type": "english"}),
    ],
)
def test_it_is_switched_as_yaml_has_it(written: str, made: dict[str, Any] | None) -> None:
    for target in ("uri: ./x.db", "uri: memory://a"):
        job = parse_job({"target": yaml.safe_load(f"{target}\nfull_text: {written}")})
        assert (job.target.stored_as.full_text and job.target.stored_as.full_text.params) == made
        assert parse_job(job.model_dump(mode="json")) == job


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"target": {"full_text": "on", "store_text": False}}, "full_text searches the stored text: set store_text: true"),
        ({"target": {"full_text": "yes"}}, r"'target\.full_text' must be 'off' or 'on' or a mapping of settings, not 'yes'$"),
        ({"target": {"full_text": {"analyser": {}}}}, r"^'target\.full_text\.analyser' is not a setting; did you mean 'analyzer'\?$"),
        (
            {"target": {"full_text": {"analyzer": "english"}}},
            r"^'target\.full_text\.analyzer' must be a mapping of settings, not 'english'$",
        ),
        ({"target": {"gate": {"queries": "q", "mode": "hybrid"}}}, "gate.mode hybrid needs full text: set full_text: on"),
        (
            {"target": {"full_text": "on"}, "source": {"kind": "images", "uri": "./x"}, "encoder": {"kind": "open-clip"}},
            "a corpus of images has none: set target.full_text: off",
        ),
    ],
)
def test_what_no_target_can_do_is_refused_when_the_job_is_read(document: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        parse_job(document)


def test_a_server_without_it_is_refused_with_the_version_that_has_it() -> None:
    with pytest.raises(BadInput, match=r"target\.full_text needs Milvus 2\.5, and this is Milvus 2\.4\.17: set target\.full_text: off"):
        check_full_text(FullText(), Server("Milvus", "v2.4.17"))
    for server in (Server("Milvus", "2.5.0"), Server("Milvus", "3.0.1"), Server("Zilliz Cloud", "x"), Server("Milvus Lite")):
        check_full_text(FullText(), server)
    check_full_text(OTHER, Server("Milvus", "2.6.0"))  # which knows best what it has


@pytest.mark.parametrize(
    ("analyzer", "lacks"),
    [
        ({"type": "english"}, "analyzer 'english'"),
        ({"tokenizer": "whitespace"}, "tokenizer 'whitespace'"),
        ({"tokenizer": {"type": "icu"}}, "tokenizer 'icu'"),
        ({"tokenizer": "standard", "filter": ["lowercase", "asciifolding"]}, "filter 'asciifolding'"),
        ({"tokenizer": "standard", "filter": [{"type": "stemmer", "language": "english"}]}, "filter 'stemmer'"),
        ({"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": ["_english_"]}]}, "list of stop words '_english_'"),
        ({"type": "standard", "stop_words": ["the"]}, "setting 'stop_words'"),
        ({"tokenizer": {"name": "jieba"}}, "tokenizer without a type"),
        ({"tokenizer": {"type": "jieba", "hmm": True}}, "setting 'hmm' of the tokenizer jieba"),
        ({"tokenizer": {"type": "jieba", "mode": "full"}}, "mode 'full' of the tokenizer jieba"),
        ({"tokenizer": "standard", "filter": "lowercase"}, "filter outside of a list: 'lowercase'"),
        ({"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": "the"}]}, "filter 'stop' without a list of stop_words"),
        (
            {"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": ["a"], "ignore_case": True}]},
            "setting 'ignore_case' of the filter",
        ),
        ({"tokenizer": "standard", "filter": [{"type": "stop", "stop_words": ["The"]}]}, "stop word with capitals, as 'The'"),
    ],
)
def test_what_milvus_lite_lacks_and_would_not_say_is_refused_with_what_it_has(analyzer: dict[str, Any], lacks: str) -> None:
    with pytest.raises(BadInput, match=rf"Milvus Lite has no {lacks}.*: it has the tokenizers standard and jieba"):
        check_full_text(FullText(analyzer=analyzer), Server("Milvus Lite"))


def test_what_milvus_lite_has_is_taken() -> None:
    for analyzer in (STANDARD, {"tokenizer": {"type": "jieba", "mode": "exact"}, "filter": [{"type": "stop", "stop_words": ["the"]}]}):
        check_full_text(FullText(analyzer=analyzer), Server("Milvus Lite"))


def test_each_way_to_search_by_words_has_a_collection_of_its_own_and_none_has_the_name_that_it_always_had() -> None:
    ways = [None, FullText(), OTHER, FullText(analyzer={**STANDARD, "filter": []})]
    names = [collection_name("rows", "0123456789abcdef", way) for way in ways]
    assert names[0] == "rows_01234567"
    assert len(set(names)) == len(ways)
    assert collection_name("rows", "0123456789abcdef", FullText(analyzer=STANDARD)) == names[1]  # which `on` stands for
    assert {len(name) for name in names} == {len("rows_01234567")}


METRICS = ("COSINE", "BM25")


def test_ranks_are_fused_as_reciprocals_and_what_both_sides_have_comes_first() -> None:
    sides, fusion = [[("a", 0.9), ("b", 0.8)], [("c", 7.0), ("b", 1.0)]], Fusion(rrf_k=60)
    assert fuse(sides, METRICS, fusion, 3) == [("b", pytest.approx(2 / 62)), ("a", pytest.approx(1 / 61)), ("c", pytest.approx(1 / 61))]
    assert [key for key, _ in fuse(sides, METRICS, fusion, 1)] == ["b"]


def test_scores_are_fused_by_weights_once_each_side_is_scaled() -> None:
    sides = [[("a", 1.0), ("b", 0.0)], [("c", 1.0), ("b", 0.0)]]
    assert dict(fuse(sides, METRICS, Fusion(weights=(0.6, 0.4)), 3)) == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.2})
    assert fuse([[("far", 9.0), ("near", 0.0)], []], ("L2", "BM25"), Fusion(weights=(1, 1)), 1) == [("near", 1.0)]
    assert fuse([[("a", 0.0)], []], ("IP", "BM25"), Fusion(weights=(1, 1)), 1) == [("a", 0.5)]
