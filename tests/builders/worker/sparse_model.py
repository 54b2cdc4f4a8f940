"""A tiny SPLADE: a text weighs the words that it has, and a few others that are near them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling
from transformers import BertConfig, BertForMaskedLM

SPECIAL = 5  # tokens of the tiny model's vocabulary that are no words


def make_tiny_splade(tiny_model: Path, folder: Path, *, seed: int = 7, threshold: float = 8.0) -> Path:
    """With the tiny model's tokenizer, in a folder below this one. Words that it does not know weigh nothing: of them alone the vector is empty.

    Nothing is learned: a word's hidden state is its embedding, whatever is beside it, and its weights are the products with all embeddings
    beyond a threshold.
    """
    words = len(json.loads((tiny_model / "tokenizer.json").read_text())["model"]["vocab"])
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForMaskedLM(BertConfig(vocab_size=words, max_position_embeddings=128, **sizes)).eval()
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((words, 32)).astype(np.float32))
    drawn[:SPECIAL] = 0
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "LayerNorm" not in name:
                tensor.zero_()
        model.bert.embeddings.word_embeddings.weight.copy_(drawn)
        head = model.cls.predictions
        head.transform.dense.weight.copy_(torch.eye(32))
        head.bias.fill_(-threshold)
    source = folder / "source"
    model.save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, source / name)
    parts = [Transformer(str(source), transformer_task="fill-mask", max_seq_length=64), SpladePooling()]
    SparseEncoder(modules=parts, device="cpu").save_pretrained(str(folder / "model"))
    shutil.rmtree(source)
    return folder / "model"
