"""Attention on CPUs in bfloat16: two plain products and a softmax.

torch's fused kernel is made for long texts: measured with all-MiniLM-L6-v2
(heads of 32) at 20 to 400 tokens, it takes 1.3 to 1.6 times as long, a tenth of the whole encoding, for vectors that are as close
to float32. In float32 it is as fast, and stays.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask

PLAIN = "kitestring_plain"
LONGEST_TOKENS = 512  # tokens: all scores of longer texts at once would take much memory
UNUSUAL = ("position_bias", "softcap", "cache")  # what only transformers' own functions know


def take_plain_attention(model: SentenceTransformer) -> bool:
    """Have an encoder that looks both ways use plain products, where its architecture lets attention be chosen."""
    network: Any = getattr(model[0], "auto_model", None)
    looks_back_only = any(getattr(part, "is_causal", False) for part in model.modules())
    if looks_back_only or getattr(getattr(network, "config", None), "_attn_implementation", None) != "sdpa":
        return False
    with suppress(Exception):  # some cannot change it once they are loaded
        network.set_attn_implementation(PLAIN)
        return True
    return False


def plain_attention(  # noqa: PLR0917 - as transformers calls it
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention with transformers' interface; unusual calls go to its own implementation.

    Args:
        module: the layer, which says whether it is causal.
        query: batch, heads, tokens, width of a head.
        key: likewise; where heads are shared, fewer.
        value: as the key.
        attention_mask: added to the scores; None where no text of the batch is padded.
        scaling: of the scores; None: one over the root of the width.
        dropout: 0 but in training.
        more: its other arguments.

    Returns: batch, tokens, heads, width of a head; and no weights.
    """
    same_heads, short = query.shape[1] == key.shape[1], key.shape[-2] <= LONGEST_TOKENS
    if not same_heads or not short or dropout or any(more.get(name) is not None for name in UNUSUAL):
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more)
        return found, None
    # The query is scaled and not the scores, which are many more.
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(-1, -2))
    if attention_mask is not None:
        scores += attention_mask
    return torch.matmul(scores.softmax(-1), value).transpose(1, 2).contiguous(), None


AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, eager_mask)
