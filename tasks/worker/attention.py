"""Attention without padding, where the kernels for it are installed.

With flash attention sentence-transformers joins a batch's texts into one row and lets none see another
(`Transformer.can_flatten_inputs`): nothing is spent on padding. Architectures that cannot do it say so when they are loaded.
"""

from __future__ import annotations

from transformers import utils

from tasks.domain.encoder import Precision

CHOICES = (("flash_attention_3", "is_flash_attn_3_available"), ("flash_attention_2", "is_flash_attn_2_available"))


def unpadded_attention(device: str, precision: Precision) -> str | None:
    """The name of the best kernels that are installed for this device; None: the library's own choice."""
    if not device.startswith("cuda") or precision == "float32":  # the kernels know half precision only
        return None
    return next((name for name, available in CHOICES if getattr(utils, available, bool)()), None)
