"""Packed weights: the same vectors, and models that cannot have them stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize import onednn_weights
from tasks.worker.optimize.onednn_weights import Packed, pack_weights
from tests.builders.worker.text_encoder import lowest_cosine, passages

needs_bfloat16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="oneDNN has no bfloat16 for this processor",
)


def packed_layers(model: nn.Module) -> int:
    return sum(isinstance(part, Packed) for part in model.modules())


def narrow(model: Path) -> SentenceTransformer:
    return SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": torch.bfloat16})


@needs_bfloat16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 16), (3, 5, 16), (1, 1, 16)], ids=str)
def test_a_packed_product_is_the_layers(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(16, 24, bias=bias, dtype=torch.bfloat16)
    rows = torch.randn(shape).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(Packed(layer)(rows), layer(rows))


@needs_bfloat16
def test_a_text_encoder_in_bfloat16_on_a_cpu_is_packed_and_gives_the_same_vectors(tiny_model: Path) -> None:
    texts = [*passages(20), "one", "word " * 400]
    settings = SentenceTransformersEncoder(model=str(tiny_model))
    exact, fast = (open_encoder(settings, model_path=str(tiny_model), precision=precision) for precision in ("float32", "bfloat16"))
    assert (packed_layers(exact._model), packed_layers(fast._model) > 0) == (0, True)
    assert lowest_cosine(fast.encode(texts), exact.encode(texts)) > 0.9995


def test_a_model_whose_code_wants_more_of_a_layer_keeps_it(tiny_model: Path) -> None:
    """T5's, as an example, looks at the type of a layer's weight."""
    model = narrow(tiny_model)
    first = model[0].auto_model.encoder.layer[0]
    dense, forward = first.output.dense, first.forward
    first.forward = lambda *given, **named: (first.output.dense.weight.dtype, forward(*given, **named))[1]
    assert not pack_weights(model)
    assert packed_layers(model) == 0
    assert first.output.dense is dense


def test_a_model_that_gives_other_vectors_when_packed_keeps_its_layers(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_weights, "Packed", lambda layer: nn.Linear(layer.in_features, layer.out_features, dtype=torch.bfloat16))
    model, texts = narrow(tiny_model), passages(3)
    before = model.encode(texts)
    assert not pack_weights(model)
    assert (model.encode(texts) == before).all()


def test_a_model_that_fails_on_the_probes_is_loaded_all_the_same(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = narrow(tiny_model)
    monkeypatch.setattr(model, "encode", lambda *_, **__: 1 / 0)
    assert not pack_weights(model)
    assert packed_layers(model) == 0


def test_a_torch_without_the_operations_packs_nothing(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    model = narrow(tiny_model)
    assert not pack_weights(model)
    assert packed_layers(model) == 0
