"""Attention on CPUs in bfloat16: two plain matrix products and a softmax.

torch's fused kernel is made for long texts: measured with all-MiniLM-L6-v2 (heads of 32) at 20 to 400 tokens, it takes 1.3 to 1.6
times as long, a tenth of the whole encoding, and its vectors are no closer to float32. In float32 the fused kernel is equally fast
and stays in use.
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
LONGEST_TOKENS = 512  # the score matrix of longer texts would take much memory
UNUSUAL = ("position_bias", "softcap", "cache")  # arguments that only transformers' own functions support


def use_plain_attention(model: SentenceTransformer) -> bool:
    """Make a bidirectional encoder use plain products. Returns False if its architecture does not allow a choice of attention."""
    network: Any = getattr(model[0], "auto_model", None)
    causal = any(getattr(part, "is_causal", False) for part in model.modules())
    if causal or getattr(getattr(network, "config", None), "_attn_implementation", None) != "sdpa":
        return False
    with suppress(Exception):  # some models cannot change it after loading
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
    """Compute attention with transformers' interface; pass unusual calls to its own implementation.

    Args:
        module: the attention layer.
        query: shape (batch, heads, tokens, head width).
        key: likewise, with fewer heads if they are shared.
        value: shape of the key.
        attention_mask: added to the scores; None if no text of the batch is padded.
        scaling: factor of the scores; None: one over the square root of the head width.
        dropout: 0 except in training.
        more: other arguments of the interface.

    Returns: output of shape (batch, tokens, heads, head width), and None for the weights.
    """
    same_heads, short = query.shape[1] == key.shape[1], key.shape[-2] <= LONGEST_TOKENS
    if not same_heads or not short or dropout or any(more.get(name) is not None for name in UNUSUAL):
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more)
        return output, None
    # Scaling the query costs less than scaling the scores, which have more elements.
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(-1, -2))
    if attention_mask is not None:
        scores += attention_mask
    return torch.matmul(scores.softmax(-1), value).transpose(1, 2).contiguous(), None


AttentionInterface.register(PLAIN, plain_attention)
AttentionMaskInterface.register(PLAIN, eager_mask)
