"""The code that an application is given says what the job says; that it runs, `tests/flows` show."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tasks.adapters.models.model_files import LocatedModel
from tasks.adapters.models.question_code import clip_question, text_question
from tasks.adapters.targets.milvus_code import milvus_search
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder
from tasks.domain.job.index import FullText
from tasks.domain.job.target import MilvusSettings
from tests.builders.collections import spec_of


def located(folder: Path) -> LocatedModel:
    return LocatedModel(path=str(folder), weights="0", revision=None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "a/b", "revision": "v1"}, "SentenceTransformer('a/b', revision='v1')"),
        ({"model": "a/b", "truncate_dim": 64, "trust_remote_code": True}, "('a/b', truncate_dim=64, trust_remote_code=True)"),
        ({"query_prompt": 'say "it": '}, "model.encode(words, prompt='say \"it\": ', normalize_embeddings=True)"),
        ({"normalize": False}, "model.encode(words, normalize_embeddings=False)"),
        ({"max_seq_length": 128}, "model.max_seq_length = 128"),
    ],
)
def test_a_question_is_embedded_as_the_job_does(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    code = text_question(SentenceTransformersEncoder.model_validate(settings), located(tmp_path))
    ast.parse(code)
    assert said in code


def test_words_for_pictures_go_through_the_models_own_tokenizer(tmp_path: Path) -> None:
    code = clip_question(OpenClipEncoder(architecture="ViT-B-32", pretrained="openai", quick_gelu=True), located(tmp_path))
    ast.parse(code)
    assert "create_model_from_pretrained('ViT-B-32', pretrained='openai', force_quick_gelu=True)" in code


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ({"uri": "./rows.db"}, "MilvusClient('./rows.db')", "import os"),
        (
            {"uri": "http://a:1", "database": "lake"},
            """('http://a:1', token=os.environ.get("MILVUS_TOKEN", ""), db_name='lake')""",
            "'text'",
        ),
        ({"uri": "./rows.db", "search": {"ef": 128}}, "search_params={'ef': 128}", "token"),
    ],
)
def test_the_collection_is_searched_by_its_alias(settings: dict[str, object], said: str, unsaid: str) -> None:
    code = milvus_search(MilvusSettings.model_validate(settings), spec_of("rows", store_text=unsaid != "'text'"))
    ast.parse(code)
    assert said in code
    assert unsaid not in code


def test_a_collection_with_full_text_is_searched_by_both_at_once_and_by_words() -> None:
    settings = MilvusSettings.model_validate({"uri": "./rows.db", "search": {"ef": 128}})
    code = milvus_search(settings, spec_of("rows", full_text=FullText()))
    ast.parse(code)
    assert "from pymilvus import AnnSearchRequest, MilvusClient, RRFRanker" in code
    assert """"vector", {'metric_type': 'COSINE', 'params': {'ef': 128}}, limit=max(k, 100)""" in code
    assert """[words], 'sparse', {'metric_type': 'BM25', 'params': {}}""" in code
    assert ("RRFRanker(60), limit=k" in code, "def search_text(words, k=10):" in code) == (True, True)
