"""Attention without padding on GPUs: a batch's texts are concatenated into one row, and no text attends to another.

torch has the kernels (`torch.nn.attention.varlen`: flash attention or cuDNN's, in half precision). transformers selects attention by
name and passes a call's boundaries (`cu_seq_lens_q`) to it. sentence-transformers pools concatenated rows, but concatenates them only
for flash attention packages that have no wheel on the package index, so this module does it.

Architectures differ in how they count positions, in windows and in biases, so a model's vectors are compared when it is loaded. If
they differ, or if its attention cannot be selected, texts are padded as usual. Images all have one size and need no padding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from tasks.domain.encoder_identity import Precision
from tasks.worker.base import Vectors, unit_length
from tasks.worker.encoding_errors import Fatal, first_line
from tasks.worker.optimize.quality import LOWEST_COSINE, PROBE_TEXTS, lowest_cosine

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None  # type: ignore[assignment]

UNPADDED = "kitestring_unpadded"
PADDING_PROBES = [
    "a text of some length " * 60,
    *PROBE_TEXTS,
    "another one " * 90,
    "b",
]  # longer than the attention windows of models that have them
UNKNOWN_TO_KERNELS = ("position_bias", "softcap", "cache", "s_aux")  # arguments that these kernels do not support
BatchFeatures = dict[str, Any]
Embed = Callable[[list[str], int], list[Vectors]]  # texts and batch size -> their vectors, once for each side of the model


def why_padded(device: str, precision: Precision) -> str | None:
    """Return why attention without padding is unavailable; None if it is available."""
    if not device.startswith("cuda"):
        return "the device is not a GPU"
    if precision not in {"bfloat16", "float16"}:
        return f"{precision} has no kernels without padding"
    return None if varlen_attn is not None else f"torch {torch.__version__} has no torch.nn.attention.varlen"


def remove_padding(model: SentenceTransformer, embed: Embed) -> str | None:
    """Make a model compute without padding if its vectors stay the same; otherwise leave it unchanged.

    Args:
        model: on its device; its `preprocess` is replaced.
        embed: embeds texts with the model as a job does.

    Returns: why its texts are still padded; None if they are not.

    Raises:
        Fatal: the device is broken.
    """
    library, this_model, with_padding = model.preprocess, _instance(model), {}
    try:
        with_padding = _implementations(model)
        padded_vectors = embed(PADDING_PROBES, 1)
        _choose(model, dict.fromkeys(with_padding, UNPADDED))
        this_model.preprocess = partial(_preprocess, library, _padding_index(model))
        lowest = min(
            _lowest(alone, joined) for alone, joined in zip(padded_vectors, embed(PADDING_PROBES, len(PADDING_PROBES)), strict=True)
        )
        if lowest >= LOWEST_COSINE:
            return None
        reason = f"without padding its vectors would differ (cosine {lowest:.5f})"
    except Fatal:
        raise
    except Exception as error:  # noqa: BLE001 - kernels and models' own code may raise anything
        reason = first_line(error)
    _choose(model, with_padding)
    this_model.preprocess = library
    return reason


def _instance(model: Any) -> Any:
    """Return the model typed as Any, so that methods of this instance can be replaced."""
    return model


def _lowest(alone: Vectors, joined: Vectors) -> float:
    some = alone.any(axis=1)  # unknown words have a zero vector
    return float(np.nan_to_num(lowest_cosine(unit_length(alone[some]), unit_length(joined[some]))))


def _transformers(model: SentenceTransformer) -> Iterator[Any]:
    return (part for part in model.modules() if isinstance(part, Transformer))


def _implementations(model: SentenceTransformer) -> dict[Any, str]:
    """Return the attention implementation of each network.

    Raises:
        ValueError: the attention of a network cannot be selected, or there is no transformer.
    """
    names = {part.auto_model: part.auto_model.config._attn_implementation for part in _transformers(model)}  # noqa: SLF001
    for network, name in names.items():
        if name != "sdpa" or not network.is_backend_compatible():
            raise ValueError(f"the attention of {type(network).__name__} cannot be selected")
    if not names:
        raise ValueError("it has no transformer")
    return names


def _choose(model: SentenceTransformer, names: dict[Any, str]) -> None:
    for network, name in names.items():
        network.set_attn_implementation(name)
        if network.config._attn_implementation != name:  # noqa: SLF001 - some only log that they cannot
            raise ValueError(f"the attention of {type(network).__name__} cannot be selected")
    for part in _transformers(model):
        if part.model_forward_params is not None:
            part.model_forward_params |= {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}


def _padding_index(model: SentenceTransformer) -> int | None:
    """Return the index after which a model's positions start, as in RoBERTa and related models; None: they start at 0."""
    indices = {
        getattr(module, "padding_idx", None)
        for module in model.modules()
        if isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding)
    }
    if len(indices) > 1:
        raise ValueError("its parts count positions in different ways")
    return indices.pop() if indices else None


def _preprocess(library: Callable[..., BatchFeatures], padding_index: int | None, inputs: list[Any], **more: Any) -> BatchFeatures:
    """Replaces a model's `preprocess`."""
    return joined_into_one_row(library(inputs, **more), padding_index)


def joined_into_one_row(features: BatchFeatures, padding_index: int | None = None) -> BatchFeatures:
    """Remove the padding of a batch and concatenate its texts.

    Args:
        features: of sentence-transformers: tensors of shape (texts, longest) with an `attention_mask`, padded on either side.
        padding_index: index after which the model's positions start; None: they start at 0.

    Returns: tensors of shape (1, tokens), positions within each text, and the texts' boundaries, under the names of transformers and
    sentence-transformers; the unchanged features if they hold more than text.
    """
    mask, ids = features.get("attention_mask"), features.get("input_ids")
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if mask is None or ids is None or any(value.shape != mask.shape for value in tensors.values()):
        return features
    real = mask.bool()
    counted = real if padding_index is None else real & (ids != padding_index)  # a text may contain the padding token
    positions = counted.cumsum(1) * counted + padding_index if padding_index is not None else real.cumsum(1) - 1
    sizes = real.sum(1)
    ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).to(torch.int32)
    longest = int(sizes.max())
    rest = {name: value for name, value in features.items() if name not in tensors}
    joined = {name: value[real].unsqueeze(0) for name, value in tensors.items() if name != "attention_mask"}
    bounds = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
    return {**rest, **joined, "position_ids": positions[real].unsqueeze(0), **bounds}


def unpadded_attention(  # noqa: PLR0917 - as transformers calls it
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention with transformers' interface; pass a padded batch to its own implementation.

    Args:
        module: the attention layer.
        query: shape (1, heads, tokens of all texts, head width).
        key: likewise, with fewer heads if they are shared.
        value: shape of the key.
        attention_mask: the mask of a padded batch.
        scaling: factor of the scores; None: one over the square root of the head width.
        dropout: 0 except in training.
        more: the texts' boundaries (`cu_seq_lens_q`, `max_length_q`), a window, and other arguments of the interface.

    Returns: output of shape (1, tokens, heads, head width), and None for the weights.

    Raises:
        NotImplementedError: the call needs a feature that these kernels lack.
    """
    ends, longest, window = more.get("cu_seq_lens_q"), more.get("max_length_q"), more.get("sliding_window")
    if ends is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more)
        return output, None
    if unsupported := [name for name in UNKNOWN_TO_KERNELS if more.get(name) is not None]:
        raise NotImplementedError(f"attention without padding does not support {unsupported[0]}")
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    reach = -1 if window is None else window - 1  # transformers' window includes the token itself
    by_token = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    settings: dict[str, Any] = {"scale": scaling, "window_size": (reach, 0 if causal else reach)}
    kernel: Any = varlen_attn
    output = kernel(*by_token, ends, ends, longest, longest, **settings, enable_gqa=query.shape[1] != key.shape[1])
    return output.unsqueeze(0), None


def _mask(*, attention_mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor | None:
    """Return `sdpa_mask` for a padded batch; concatenated texts need no mask."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **more)


AttentionInterface.register(UNPADDED, unpadded_attention)
AttentionMaskInterface.register(UNPADDED, _mask)
