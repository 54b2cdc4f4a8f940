from __future__ import annotations

from pathlib import Path

import pytest
from transformers import utils

from tasks.worker import text
from tasks.worker.attention import unpadded_attention
from tests.worker.test_text import lowest_cosine, opened, passages, stock


def test_flash_attention_is_for_half_precision_on_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "is_flash_attn_3_available", lambda: False)
    monkeypatch.setattr(utils, "is_flash_attn_2_available", lambda: True)
    assert unpadded_attention("cuda:1", "bfloat16") == "flash_attention_2"
    assert unpadded_attention("cuda:1", "float32") is None
    assert unpadded_attention("cpu", "bfloat16") is None
    monkeypatch.setattr(utils, "is_flash_attn_2_available", lambda: False)
    assert unpadded_attention("cuda:1", "bfloat16") is None


def test_a_model_that_cannot_have_it_is_loaded_without(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def flash(device: str, _precision: str) -> str:
        asked.append(device)
        return "flash_attention_2"  # which no CPU has

    monkeypatch.setattr(text, "unpadded_attention", flash)
    texts = passages(5)
    assert lowest_cosine(opened(tiny_model).encode(texts), stock(tiny_model, texts)) > 0.99999
    assert asked == ["cpu"]
