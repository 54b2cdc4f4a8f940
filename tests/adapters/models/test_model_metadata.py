"""What a model's files tell without loading it is what it says once it is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.model_metadata import ModelShape, TokenCounter, shape_of
from tasks.domain.job.encoder import OpenClipEncoder, SentenceTransformersEncoder
from tests.builders.models import HIDDEN, TOKENS, Clip


def shape(model: Path, **settings: object) -> ModelShape:
    encoder = SentenceTransformersEncoder.model_validate({"model": str(model), **settings})
    return shape_of(encoder, locate_model(encoder))


def test_dimensions_and_longest_input_are_read_from_the_models_folder(tiny_model: Path, minilm_path: Path) -> None:
    tiny, real = shape(tiny_model), shape(minilm_path)
    assert (tiny.dim, tiny.limit, tiny.prompt) == (HIDDEN, TOKENS, "")
    assert (real.dim, real.limit) == (384, 256)
    assert (shape(tiny_model, truncate_dim=8).dim, shape(tiny_model, max_seq_length=16).limit) == (8, 16)


def test_a_bare_transformer_tells_its_hidden_size_and_positions(tiny_model: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny_model, tmp_path / "bare"))
    for name in ("modules.json", "sentence_bert_config.json", "tokenizer_config.json"):
        (bare / name).unlink()
    assert (shape(bare).dim, shape(bare).limit) == (HIDDEN, 2 * TOKENS)


def test_the_last_dense_layer_has_the_word(tiny_model: Path, tmp_path: Path) -> None:
    dense = Path(shutil.copytree(tiny_model, tmp_path / "dense"))
    modules = json.loads((dense / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (dense / "modules.json").write_text(json.dumps(modules))
    (dense / "2_Dense").mkdir()
    (dense / "2_Dense" / "config.json").write_text(json.dumps({"in_features": HIDDEN, "out_features": 12}))
    assert shape(dense).dim == 12


def test_clip_models_tell_their_dimensions(tiny_clip: Clip) -> None:
    for architecture, dim in ((tiny_clip.architecture, HIDDEN), ("ViT-B-32", 512), ("ViT-L/14", 768)):
        encoder = OpenClipEncoder(architecture=architecture, pretrained="openai")
        assert shape_of(encoder, locate_model(encoder)).dim == dim


def test_tokens_are_the_models_own_with_marks_and_prompt_as_far_as_it_reads(tiny_model: Path) -> None:
    texts = ["the one that is", "", "the " * 1_000]
    assert TokenCounter(shape(tiny_model)).count(texts) == [6, 2, TOKENS]
    assert TokenCounter(shape(tiny_model, prompt_name="query")).count(texts) == [10, 6, TOKENS]
    assert TokenCounter(shape(tiny_model)).name == "the model's own tokenizer"


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: file.write_text("{}")], ids=["missing", "of another kind"])
def test_without_a_tokenizer_tokens_are_a_guess_and_it_says_so(tiny_model: Path, tmp_path: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    model = Path(shutil.copytree(tiny_model, tmp_path / "spoilt"))
    spoil(model / "tokenizer.json")
    counter = TokenCounter(shape(model))
    assert counter.name == ""
    assert counter.count(["x" * 40, "x" * 4_000]) == [12, TOKENS]
