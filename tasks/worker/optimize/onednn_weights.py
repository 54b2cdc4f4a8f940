"""Packs weights once in the layout of the processor's bfloat16 units, instead of at every product.

torch keeps a layer's weights as loaded and lets oneDNN reorder them for each product: 3 to 14% of a product's CPU time, measured at
the shapes of all-MiniLM-L6-v2 on one thread on a busy machine. torch's compiler packs them when it freezes a model
(`torch._inductor`, `mkldnn_fusion.py`) with the two operations that are called here, but compiling takes longer than most runs.
torch's public API (`torch.utils.mkldnn`) copies a product's inputs and outputs and is slower than not packing.

These operations are private to torch: if a version lacks them, or a model's code uses more of a layer than its product, the model
stays unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from tasks.worker.optimize.quality import LOWEST_COSINE, lowest_cosine, probe_vectors

USUAL_TOKENS = 1024  # batch size in tokens that the layout is chosen for; it works for others, too


class Packed(nn.Module):
    """The product of one `nn.Linear`, with packed weights."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), USUAL_TOKENS)  # noqa: SLF001
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Map (..., in_features) to (..., out_features), in bfloat16."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")  # noqa: SLF001
        return product


def pack_weights(model: SentenceTransformer) -> bool:
    """Pack a bfloat16 model's layers for the CPU. Returns False if they are unchanged."""
    layers = list(_layers(model))
    with suppress(Exception):  # torch's internals and models' own code may raise anything
        before = probe_vectors(model)
        with torch.inference_mode():
            for parent, name, layer in layers:
                setattr(parent, name, Packed(layer))
        if lowest_cosine(before, probe_vectors(model)) >= LOWEST_COSINE:
            return bool(layers)
    for parent, name, layer in layers:
        setattr(parent, name, layer)
    return False


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for parent in network.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:  # a subclass may do more
                yield parent, name, child
