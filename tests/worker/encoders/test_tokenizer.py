"""Texts that bring their tokens along: tokenised once, and the vectors are the library's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sentence_transformers.base.modules import Transformer

from tests.builders.worker.text_encoder import embed, lowest_cosine, opened, passages, stock

TEXTS = [*passages(60), "", " space around \n", "Ünïcode ✓ 日本語", "the " * 600]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the library has tokenised, call by call."""
    calls: list[int] = []
    original = Transformer.preprocess

    def noting(self: Transformer, inputs: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
        calls.append(len(inputs))
        return original(self, inputs, *arguments, **more)

    monkeypatch.setattr(Transformer, "preprocess", noting)
    return calls


def with_tokenizer(model: Path, folder: Path, **settings: str) -> Path:
    """The model with other settings of its tokenizer."""
    shutil.copytree(model, folder / "model")
    config = folder / "model" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return folder / "model"


@pytest.mark.parametrize("settings", [{}, {"prompt": "it is: "}, {"prompt_name": "query"}, {"max_seq_length": 16}])
def test_the_library_tokenises_nothing_more(tiny_model: Path, asked: list[int], settings: dict[str, Any]) -> None:
    encoder = opened(tiny_model, **settings)
    asked.clear()
    vectors = embed(encoder, TEXTS)
    assert not asked
    whole = {name: value for name, value in settings.items() if name != "max_seq_length"}
    if whole == settings:
        assert lowest_cosine(vectors, stock(tiny_model, TEXTS, **whole)) >= 0.999999


def test_a_text_that_is_cut_has_the_vector_that_the_library_gives_it(tiny_model: Path, asked: list[int]) -> None:
    encoder = opened(tiny_model, max_seq_length=16)
    plain = encoder.encode(TEXTS)  # without tokens: the library's own way
    asked.clear()
    assert lowest_cosine(embed(encoder, TEXTS), plain) >= 0.999999
    assert not asked


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_left_is_left(tiny_model: Path, tmp_path: Path, asked: list[int], side: str) -> None:
    """Batch by batch: this architecture counts its positions from the left, padding included."""
    encoder = opened(with_tokenizer(tiny_model, tmp_path, **{side: "left"}))
    work = encoder.prepare(pa.table({"text": TEXTS}))
    asked.clear()
    for batch in work.load(work.plan(range(len(TEXTS))), alone=False):
        vectors = encoder.encode(batch.contents)
        assert not asked
        assert (vectors == encoder.encode([str(text) for text in batch.contents])).all()
        asked.clear()


def test_features_of_a_models_own_are_left_to_it(tiny_model: Path, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    original = Transformer.preprocess

    def with_a_word_before(self: Transformer, inputs: Any, *arguments: Any, **more: Any) -> dict[str, Any]:
        return original(self, [f"the {text}" for text in inputs], *arguments, **more)

    monkeypatch.setattr(Transformer, "preprocess", with_a_word_before)
    encoder = opened(tiny_model)
    asked.clear()
    vectors = embed(encoder, TEXTS)
    assert sum(asked) == len(TEXTS)
    assert lowest_cosine(vectors, stock(tiny_model, TEXTS)) >= 0.999999


def test_what_comes_without_tokens_is_the_librarys(tiny_model: Path, asked: list[int]) -> None:
    encoder = opened(tiny_model)
    asked.clear()
    assert lowest_cosine(encoder.encode(TEXTS), stock(tiny_model, TEXTS)) >= 0.999999
    assert asked[0] == len(TEXTS)
