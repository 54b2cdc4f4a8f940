"""Rows are embedded as the library's `encode_document` does it, questions as its `encode_query`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.prompts import sides_of
from tasks.domain.encoder_identity import EncoderIdentity
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tests.builders.models import make_tiny_model
from tests.builders.worker.text_encoder import embed, lowest_cosine, opened, passages

TEXTS = passages(20)
BOTH = {"query": "the one that is ", "document": "it was "}


def with_prompts(model: Path, folder: Path, prompts: dict[str, str], default: str | None = None) -> Path:
    shutil.copytree(model, folder / "model")
    told = {"prompts": prompts, "default_prompt_name": default}
    (folder / "model" / "config_sentence_transformers.json").write_text(json.dumps(told))
    return folder / "model"


def settings(model: Path, **more: Any) -> SentenceTransformersEncoder:
    return SentenceTransformersEncoder(model=str(model), **more)


def identity(encoder: SentenceTransformersEncoder) -> EncoderIdentity:
    """As a run makes it."""
    located = locate_model(encoder)
    preprocessing = {**encoder.preprocessing, **located.resolved}
    told = {"kind": encoder.kind, "model": encoder.model, "revision": None, "weights": located.weights, "precision": "float32"}
    return EncoderIdentity.model_validate({**told, "preprocessing": preprocessing})


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        (BOTH, None),
        (BOTH, "query"),
        ({"query": "the one that is ", "document": ""}, "query"),
        ({"query": "the one that is "}, "query"),
        ({"query": "the one that is ", "passage": "it was "}, None),
        ({"query": "the one that is ", "corpus": "it was ", "passage": "a "}, "corpus"),
        ({"other": "it was "}, "other"),
        ({}, None),
    ],
)
def test_rows_and_questions_have_the_librarys_vectors(
    tiny_model: Path, tmp_path: Path, prompts: dict[str, str], default: str | None
) -> None:
    model = with_prompts(tiny_model, tmp_path, prompts, default)
    ours, library = opened(model), SentenceTransformer(str(model), device="cpu")
    assert lowest_cosine(embed(ours, TEXTS), library.encode_document(TEXTS)) >= 0.99999
    assert lowest_cosine(ours.embed_queries(TEXTS), library.encode_query(TEXTS)) >= 0.99999


def test_an_empty_prompt_is_not_none(tiny_model: Path, tmp_path: Path) -> None:
    model = with_prompts(tiny_model, tmp_path, {"query": "the one that is ", "document": ""}, "query")
    library = SentenceTransformer(str(model), device="cpu")
    for named in ({"prompt_name": "document"}, {"prompt": ""}):
        assert lowest_cosine(embed(opened(model, **named), TEXTS), library.encode(TEXTS, prompt="")) >= 0.99999


def test_the_jobs_prompts_take_the_place_of_the_models(tiny_model: Path, tmp_path: Path) -> None:
    model = with_prompts(tiny_model, tmp_path, {**BOTH, "passage": "a "}, "query")
    library = SentenceTransformer(str(model), device="cpu")
    for ours, rows, questions in (
        (opened(model, prompt="with ", query_prompt="you "), "with ", "you "),
        (opened(model, prompt_name="passage", query_prompt_name="document"), "a ", "it was "),
        (opened(model, prompt="with "), "with ", "the one that is "),
    ):
        assert lowest_cosine(embed(ours, TEXTS), library.encode(TEXTS, prompt=rows)) >= 0.99999
        assert lowest_cosine(ours.embed_queries(TEXTS), library.encode(TEXTS, prompt=questions)) >= 0.99999


@pytest.mark.parametrize("prompts", [{}, {"query": "", "document": ""}, {"other": "it was "}])
def test_a_prompt_that_the_model_does_not_bring_is_refused_before_it_is_loaded(
    tiny_model: Path, tmp_path: Path, prompts: dict[str, str]
) -> None:
    model = with_prompts(tiny_model, tmp_path, prompts)
    for setting in ("prompt_name", "query_prompt_name"):
        with pytest.raises(BadInput, match=f"encoder.{setting} 'query': the model defines no such prompt"):
            locate_model(settings(model, **{setting: "query"}))


def router(tiny_model: Path, folder: Path, **more: Any) -> Path:
    """Two models behind one door, the questions' first."""
    other = SentenceTransformer(str(make_tiny_model(folder / "other", seed=11)), device="cpu")
    rows = SentenceTransformer(str(tiny_model), device="cpu")
    parts = Router.for_query_document(query_modules=list(other.children()), document_modules=list(rows.children()), **more)
    SentenceTransformer(modules=[parts], device="cpu").save(str(folder / "router"))
    return folder / "router"


@pytest.mark.parametrize("default", ["query", "document", None])
def test_rows_and_questions_take_their_own_routes(tiny_model: Path, tmp_path: Path, default: str | None) -> None:
    model = router(tiny_model, tmp_path, default_route=default)
    ours, library = opened(model), SentenceTransformer(str(model), device="cpu")
    rows, questions = embed(ours, TEXTS), ours.embed_queries(TEXTS)
    assert lowest_cosine(rows, library.encode_document(TEXTS)) >= 0.99999
    assert lowest_cosine(questions, library.encode_query(TEXTS)) >= 0.99999
    assert lowest_cosine(rows, questions) < 0.9
    led = identity(settings(model)).preprocessing.get("document_route")
    assert led == (None if default == "document" else "document")  # earlier versions went the default's way


def test_a_fingerprint_is_as_it_was_where_rows_are_embedded_as_they_were(tiny_model: Path, tmp_path: Path) -> None:
    """The same job, with and without questions of its own; and one whose rows had the prompt of the questions."""
    plain = settings(tiny_model)
    assert locate_model(plain).resolved == {}
    assert (
        identity(plain) == identity(settings(tiny_model, query_prompt="you ")) == identity(settings(tiny_model, query_prompt_name="query"))
    )
    assert settings(tiny_model, query_prompt="you ").declared == plain.declared
    model = with_prompts(tiny_model, tmp_path, BOTH, "query")
    changed = identity(settings(model))
    assert changed.preprocessing["document_prompt"] == "it was "
    assert changed.fingerprint != changed.model_copy(update={"preprocessing": settings(model).preprocessing}).fingerprint
    declared = identity(settings(model, prompt_name="query"))
    assert "document_prompt" not in declared.preprocessing


def test_an_identity_gives_its_settings_back(tiny_model: Path, tmp_path: Path) -> None:
    model = with_prompts(tiny_model, tmp_path, BOTH)
    ours = settings(model, query_prompt="you ", precision="float32")
    assert SentenceTransformersEncoder.restored(identity(ours), like=ours) == ours
    other = settings(tiny_model, query_prompt="you ")
    assert SentenceTransformersEncoder.restored(identity(ours), like=other).query_prompt is None


def test_what_stands_before_rows_and_questions_is_told(tiny_model: Path, tmp_path: Path) -> None:
    told = sides_of(settings(tiny_model), tiny_model).description
    assert told == "rows: no prompt; questions: prompt 'the one that is ' (the model's 'query')"
    model = with_prompts(tiny_model, tmp_path, {"query": "q ", "passage": "it was "})
    assert "its prompt 'passage' is not used: set encoder.prompt_name" in sides_of(settings(model), model).description
    assert not sides_of(settings(with_prompts(tiny_model, tmp_path / "none", {})), tmp_path / "none" / "model").description
