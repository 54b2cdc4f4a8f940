"""Attention without padding on GPUs: a batch's texts are joined into one row, and none sees another.

torch brings the kernels (`torch.nn.attention.varlen`: flash attention or cuDNN's, in half precision). transformers lets attention be chosen by
name, and hands a call's boundaries (`cu_seq_lens_q`) down to it. sentence-transformers pools rows that are joined, but joins them
only for packages of flash attention of which the package index has no wheel: it is done here.

Architectures differ in how they count positions, in windows, in biases; whether a model's vectors are the same is tried when it is
loaded. Where they are not, or where its attention cannot be chosen, texts are padded as ever. Images are all of one size: nothing is padded.
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
PADDING_PROBES = ["a text of some length " * 60, *PROBE_TEXTS, "another one " * 90, "b"]  # longer than the windows of models that have some
UNKNOWN_TO_KERNELS = ("position_bias", "softcap", "cache", "s_aux")  # what these kernels do not know
BatchFeatures = dict[str, Any]
Embed = Callable[[list[str], int], list[Vectors]]  # texts and how many at once: their vectors, once for each side of the model


def why_padded(device: str, precision: Precision) -> str | None:
    """Why there is no attention without padding here; None: there is."""
    if not device.startswith("cuda"):
        return "this is no GPU"
    if precision not in {"bfloat16", "float16"}:
        return f"{precision} has no kernels without padding"
    return None if varlen_attn is not None else f"torch {torch.__version__} has no torch.nn.attention.varlen"


def leave_out_padding(model: SentenceTransformer, embed: Embed) -> str | None:
    """Have a model compute without padding, if its vectors stay the same; otherwise it is left as it was.

    Args:
        model: on its device; its `preprocess` is replaced.
        embed: as a job embeds texts with it.

    Returns: why its texts are padded all the same; None: they are not.

    Raises:
        Fatal: the device is broken.
    """
    library, this_model, with_padding = model.preprocess, _this(model), {}
    try:
        with_padding = _implementations(model)
        due = embed(PADDING_PROBES, 1)
        _choose(model, dict.fromkeys(with_padding, UNPADDED))
        this_model.preprocess = partial(_preprocess, library, _padding_index(model))
        lowest = min(_lowest(alone, joined) for alone, joined in zip(due, embed(PADDING_PROBES, len(PADDING_PROBES)), strict=True))
        if lowest >= LOWEST_COSINE:
            return None
        reason = f"without padding its vectors would be others (cosine {lowest:.5f})"
    except Fatal:
        raise
    except Exception as error:  # noqa: BLE001 - kernels and models' own code may raise anything
        reason = first_line(error)
    _choose(model, with_padding)
    this_model.preprocess = library
    return reason


def _this(model: Any) -> Any:
    """The model: its methods may be replaced, and those of no other of its class."""
    return model


def _lowest(alone: Vectors, joined: Vectors) -> float:
    some = alone.any(axis=1)  # not of words that it does not know
    return float(np.nan_to_num(lowest_cosine(unit_length(alone[some]), unit_length(joined[some]))))


def _transformers(model: SentenceTransformer) -> Iterator[Any]:
    return (part for part in model.modules() if isinstance(part, Transformer))


def _implementations(model: SentenceTransformer) -> dict[Any, str]:
    """The attention of each of its networks.

    Raises:
        ValueError: one whose attention cannot be chosen.
    """
    found = {part.auto_model: part.auto_model.config._attn_implementation for part in _transformers(model)}  # noqa: SLF001
    for network, name in found.items():
        if name != "sdpa" or not network.is_backend_compatible():
            raise ValueError(f"the attention of {type(network).__name__} cannot be chosen")
    if not found:
        raise ValueError("it has no transformer")
    return found


def _choose(model: SentenceTransformer, names: dict[Any, str]) -> None:
    for network, name in names.items():
        network.set_attn_implementation(name)
        if network.config._attn_implementation != name:  # noqa: SLF001 - some only log that they cannot
            raise ValueError(f"the attention of {type(network).__name__} cannot be chosen")
    for part in _transformers(model):
        if part.model_forward_params is not None:
            part.model_forward_params |= {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}


def _padding_index(model: SentenceTransformer) -> int | None:
    """After which index a model counts its positions, as RoBERTa and its kin do; None: from 0."""
    found = {
        getattr(module, "padding_idx", None)
        for module in model.modules()
        if isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding)
    }
    if len(found) > 1:
        raise ValueError("its parts count positions in different ways")
    return found.pop() if found else None


def _preprocess(library: Callable[..., BatchFeatures], padding_index: int | None, inputs: list[Any], **more: Any) -> BatchFeatures:
    """Replaces a model's."""
    return joined_into_one_row(library(inputs, **more), padding_index)


def joined_into_one_row(features: BatchFeatures, padding_index: int | None = None) -> BatchFeatures:
    """A padded batch without its padding.

    Args:
        features: sentence-transformers': tensors of shape (texts, longest) beside `attention_mask`, whichever side is padded.
        padding_index: of a model that counts its positions from the next one on.

    Returns: tensors of shape (1, tokens), positions within each text, and the texts' boundaries, as transformers and sentence-transformers
    name them; the same features where there is more than text in them.
    """
    mask, ids = features.get("attention_mask"), features.get("input_ids")
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if mask is None or ids is None or any(value.shape != mask.shape for value in tensors.values()):
        return features
    real = mask.bool()
    counted = real if padding_index is None else real & (ids != padding_index)  # a text may hold the padding's own token
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
    """Attention with transformers' interface; a batch that is padded all the same goes to its own implementation.

    Args:
        module: the layer, which says whether it is causal.
        query: 1, heads, tokens of all texts, width of a head.
        key: likewise; where heads are shared, fewer.
        value: as the key.
        attention_mask: of a padded batch.
        scaling: of the scores; None: one over the root of the width.
        dropout: 0 but in training.
        more: the texts' boundaries (`cu_seq_lens_q`, `max_length_q`), a window, and its other arguments.

    Returns: 1, tokens, heads, width of a head; and no weights.

    Raises:
        NotImplementedError: what these kernels cannot do.
    """
    ends, longest, window = more.get("cu_seq_lens_q"), more.get("max_length_q"), more.get("sliding_window")
    if ends is None:
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **more)
        return found, None
    if odd := [name for name in UNKNOWN_TO_KERNELS if more.get(name) is not None]:
        raise NotImplementedError(f"attention without padding knows no {odd[0]}")
    causal = more.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    reach = -1 if window is None else window - 1  # transformers counts the token itself
    by_token = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
    settings: dict[str, Any] = {"scale": scaling, "window_size": (reach, 0 if causal else reach)}
    kernel: Any = varlen_attn
    found = kernel(*by_token, ends, ends, longest, longest, **settings, enable_gqa=query.shape[1] != key.shape[1])
    return found.unsqueeze(0), None


def _mask(*, attention_mask: torch.Tensor | None = None, **more: Any) -> torch.Tensor | None:
    """As `sdpa_mask` for a padded batch; texts that are joined need none."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **more)


AttentionInterface.register(UNPADDED, unpadded_attention)
AttentionMaskInterface.register(UNPADDED, _mask)
