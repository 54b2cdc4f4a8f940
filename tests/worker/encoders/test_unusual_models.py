"""Text models that come in shapes of their own: each has the library's vectors, or is refused by name before anything is encoded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.cross_encoder import CrossEncoder
from sentence_transformers.sparse_encoder.modules import SpladePooling
from sentence_transformers.sparse_encoder.modules import Transformer as MaskedLanguageModel
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from tasks.adapters.models.model_files import locate_model
from tasks.adapters.models.model_metadata import shape_of
from tasks.adapters.models.sparse_encoder import SparseEncoder as SparseEncoderSettings
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import SentenceTransformersEncoder
from tests.builders.models import HIDDEN, TOKENS
from tests.builders.worker.text_encoder import embed, lowest_cosine, opened, passages, stock

TEXTS = passages(40)
LATE_TOLD = (
    r"a late-interaction model \(ColBERT\).*no target's collections hold a vector for each token of a row: choose a model that gives one"
)


def changed(model: Path, folder: Path, name: str, **settings: Any) -> Path:
    """The model with other settings in one of its files."""
    shutil.copytree(model, folder / "model")
    path = folder / "model" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder / "model"


def bare(model: Path, folder: Path, made: Any) -> Path:
    """A folder of transformers alone, with the tiny model's tokenizer."""
    made.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, folder / name)
    return folder


def tiny_config(kind: type[Any] = BertConfig, **more: Any) -> Any:
    sizes = {"hidden_size": HIDDEN, "intermediate_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2}
    return kind(vocab_size=200, max_position_embeddings=TOKENS, **sizes, **more)


def cross_encoder(model: Path, folder: Path) -> Path:
    source = bare(model, folder / "source", BertForSequenceClassification(tiny_config(num_labels=1)))
    CrossEncoder(str(source), device="cpu").save_pretrained(str(folder / "saved"))
    return folder / "saved"


def splade(model: Path, folder: Path) -> Path:
    source = bare(model, folder / "source", BertForMaskedLM(tiny_config()))
    parts = [MaskedLanguageModel(str(source), transformer_task="fill-mask"), SpladePooling()]
    SparseEncoder(modules=parts, device="cpu").save_pretrained(str(folder / "saved"))
    return folder / "saved"


def colbert(model: Path, folder: Path) -> Path:
    kinds = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    shutil.copytree(model, folder / "saved")
    modules = [{"idx": at, "name": str(at), "path": path, "type": kind} for at, (path, kind) in enumerate(kinds)]
    (folder / "saved" / "modules.json").write_text(json.dumps(modules))
    return folder / "saved"


def head(name: str, folder: Path) -> Path:
    """What a folder without modules says of its model, as ColBERT's own and those of pictures do."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [name]}))
    return folder


def multi_vector(model: Path, folder: Path) -> Path:
    MultiVectorEncoder(str(model), device="cpu").save_pretrained(str(folder / "saved"))
    return folder / "saved"


def classifier(model: Path, folder: Path) -> Path:
    return bare(model, folder / "saved", BertForSequenceClassification(tiny_config(num_labels=3)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (cross_encoder, "a cross-encoder, which scores pairs of texts"),
        (splade, r"a sparse encoder \(SPLADE\).*: set encoder\.kind: sparse"),
        (colbert, LATE_TOLD),
        (multi_vector, LATE_TOLD),
        (classifier, r"a classifier or cross-encoder \(BertForSequenceClassification\)"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_what_its_folder_says(tiny_model: Path, tmp_path: Path, make: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        locate_model(SentenceTransformersEncoder(model=str(make(tiny_model, tmp_path))))


@pytest.mark.parametrize("name", ["HF_ColBERT", "ColPaliForRetrieval", "ColQwen2ForRetrieval"])
def test_late_interaction_is_refused_with_what_to_use_instead_whichever_kind_is_named(tmp_path: Path, name: str) -> None:
    for encoder in (SentenceTransformersEncoder, SparseEncoderSettings):
        with pytest.raises(BadInput, match=LATE_TOLD):
            locate_model(encoder(model=str(head(name, tmp_path / encoder.__name__))))


@pytest.mark.parametrize("kind", ["MultiVectorEncoder", "SparseEncoder", "NotYetKnown"])
def test_a_kind_that_the_folder_names_is_refused(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    model = changed(tiny_model, tmp_path, "config_sentence_transformers.json", model_type=kind)
    with pytest.raises(BadInput, match="takes models that give one vector for a text"):
        locate_model(SentenceTransformersEncoder(model=str(model)))


def test_a_tokenizer_without_a_padding_token_pads_as_its_family_does(tiny_model: Path, tmp_path: Path) -> None:
    model = changed(tiny_model, tmp_path, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", eos_token="[SEP]")
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    assert SentenceTransformer(str(model), device="cpu").tokenizer.pad_token is None
    assert lowest_cosine(embed(opened(model), TEXTS), stock(tiny_model, TEXTS)) >= 0.99999
    for name in ("eos_token", "unk_token"):
        config.pop(name, None)
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"its tokenizer has no token to pad with: set pad_token in its tokenizer_config\.json"):
        opened(model)


def test_what_fails_for_every_text_stops_at_the_start(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no template for this")

    monkeypatch.setattr(SentenceTransformer, "preprocess", fail)
    with pytest.raises(BadInput, match=r"cannot embed a text in float32: no template for this"):
        opened(tiny_model)


def xlm_roberta(model: Path, folder: Path, told: int | None = None) -> Path:
    made = bare(model, folder / "xlm", XLMRobertaModel(tiny_config(XLMRobertaConfig, pad_token_id=1)))
    config = json.loads((made / "tokenizer_config.json").read_text())
    (made / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": TOKENS}))
    if told:
        (made / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": told}))
    return made


@pytest.mark.parametrize("told", [None, TOKENS])
def test_positions_that_begin_after_the_paddings_are_as_many_fewer(tiny_model: Path, tmp_path: Path, told: int | None) -> None:
    model = xlm_roberta(tiny_model, tmp_path, told)
    encoder = opened(model)
    assert encoder.facts().max_seq_length == TOKENS - 2
    settings = SentenceTransformersEncoder(model=str(model))
    assert shape_of(settings, locate_model(settings)).limit == TOKENS - 2
    assert np.isfinite(embed(encoder, ["the " * 500, *TEXTS])).all()
    with pytest.raises(BadInput, match=f"max_seq_length {TOKENS}: the model has positions for {TOKENS - 2} tokens"):
        opened(model, max_seq_length=TOKENS)


def test_a_row_has_its_vector_whatever_it_is_encoded_with(tiny_model: Path, tmp_path: Path) -> None:
    """Padded on the left this architecture counts its positions from the padding."""
    model = changed(tiny_model, tmp_path, "tokenizer_config.json", padding_side="left")
    library = SentenceTransformer(str(model), device="cpu")
    alone = np.concatenate([library.encode([text]) for text in TEXTS])
    assert lowest_cosine(library.encode(TEXTS), alone) < 0.9
    encoder = opened(model)
    assert lowest_cosine(embed(encoder, TEXTS), alone) >= 0.99999
    assert (
        lowest_cosine(encoder.embed_queries(TEXTS), library.encode(["the one that is " + text for text in TEXTS], batch_size=1)) >= 0.99999
    )
    work = encoder.prepare(pa.table({"text": TEXTS * 3}))
    assert all(len({work.sizes[row] for row in batch}) == 1 for batch in work.plan(range(len(TEXTS) * 3)))
