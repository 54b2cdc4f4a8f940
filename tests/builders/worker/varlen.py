"""Variable-length attention written out text by text: what torch's kernels compute on GPUs; and models of several architectures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

SIZES = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.3}
POSITIONS = {"max_position_embeddings": 400, "pad_token_id": 1}
DECODER = {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 400, "pad_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"max_position_embeddings": 400, "pad_token_id": 0},
    "xlm-roberta": POSITIONS,
    "modernbert": {"max_position_embeddings": 400, "pad_token_id": 0, "local_attention": 16, "global_attn_every_n_layers": 3},
    "qwen2": {**DECODER},
    "qwen3": {**DECODER, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    "mpnet": POSITIONS,
    "t5": {"d_model": 64, "d_ff": 64, "num_layers": 2, "num_heads": 4, "d_kv": 16, "pad_token_id": 0},
}


def write_model(folder: Path, kind: str, tokenizer: Path, *, pooling: str, padding: str = "right") -> Path:
    """A model of random weights, large enough that attention matters, with the tiny model's tokenizer."""
    shutil.copytree(tokenizer, folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = AutoConfig.for_model(kind, vocab_size=200, **({} if kind == "t5" else SIZES), **SHAPES[kind])
        AutoModel.from_config(config).save_pretrained(folder)
    _merge(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": False, pooling: True})
    _merge(folder / "tokenizer_config.json", {"padding_side": padding, "model_max_length": 300})
    _merge(folder / "sentence_bert_config.json", {"max_seq_length": 300})
    return folder


def _merge(path: Path, more: dict[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def varlen_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    key_ends: torch.Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """`torch.nn.attention.varlen.varlen_attn`, for tensors of shape (tokens of all texts, heads, width)."""
    assert torch.equal(ends, key_ends)
    assert (ends.dtype, int(ends[-1])) == (torch.int32, len(query))
    assert longest == longest_key == int((ends[1:] - ends[:-1]).max())
    left, right = window_size
    texts = []
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        at = torch.arange(end - begin)
        back = at[:, None] - at[None, :]
        seen = ((back <= left) if left >= 0 else torch.ones_like(back, dtype=torch.bool)) & ((-back <= right) if right >= 0 else True)
        q, k, v = (tensor[begin:end].transpose(0, 1) for tensor in (query, key, value))
        found = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale, enable_gqa=enable_gqa)
        texts.append(found.transpose(0, 1))
    return torch.cat(texts)
