from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tasks.domain.job.encoder import SentenceTransformersEncoder
from tasks.worker.encoders.registry import open_encoder
from tasks.worker.optimize.attention import LONGEST_TOKENS, PLAIN, plain_attention, use_plain_attention
from tests.builders.worker.text_encoder import lowest_cosine, opened, passages


@pytest.mark.parametrize("heads", [4, 2], ids=["heads of its own", "shared heads"])
@pytest.mark.parametrize("tokens", [1, 9, LONGEST_TOKENS + 1])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_plain_attention_is_attention(heads: int, tokens: int, padded: bool, scaling: float | None) -> None:
    generator = torch.Generator().manual_seed(tokens)
    query, key, value = (torch.randn(2, n, tokens, 8, generator=generator) for n in (4, heads, heads))
    layer = torch.nn.Module()
    layer.is_causal, layer.num_key_value_groups = False, 4 // heads
    mask = None
    if padded and tokens > 1:
        mask = torch.zeros(2, 1, tokens, tokens)
        mask[0, :, :, tokens // 2 :] = torch.finfo(torch.float32).min
    found, _ = plain_attention(layer, query, key, value, mask, scaling=scaling)
    due, _ = sdpa_attention_forward(layer, query, key, value, mask, scaling=scaling)
    assert found.shape == due.shape == (2, tokens, 4, 8)
    torch.testing.assert_close(found, due)


def test_a_text_encoder_in_bfloat16_on_a_cpu_takes_plain_attention_and_gives_the_same_vectors(tiny_model: Path) -> None:
    texts = [*passages(20), "one", "word " * 400]
    settings = SentenceTransformersEncoder(model=str(tiny_model))
    wide, narrow = (open_encoder(settings, model_path=str(tiny_model), precision=precision) for precision in ("float32", "bfloat16"))
    implementations = [encoder._model[0].auto_model.config._attn_implementation for encoder in (wide, narrow)]
    assert implementations == ["sdpa", PLAIN]
    assert lowest_cosine(narrow.encode(texts), wide.encode(texts)) > 0.9995


def test_a_model_that_looks_back_only_keeps_its_attention(tiny_model: Path) -> None:
    model = opened(tiny_model)._model
    model[0].auto_model.encoder.layer[0].attention.self.is_causal = True
    assert not use_plain_attention(model)
