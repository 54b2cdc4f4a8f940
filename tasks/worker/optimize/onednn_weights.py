"""Weights in the order in which the processor's bfloat16 units read them, put so once and not at every product.

torch keeps a layer's weights as they come and has oneDNN reorder them for each product: 3 to 14% of a product's CPU time, measured
at the shapes of all-MiniLM-L6-v2 on one thread, beside other work. torch's own compiler packs them when it freezes a model (`torch._inductor`,
`mkldnn_fusion.py`), with the two operations that are called here; compiling itself takes longer than most runs. torch's public way
(`torch.utils.mkldnn`) copies a product's inputs and outputs, and is slower than not packing.

These operations are torch's insides: where a version has them no more, or a model's code wants more of a layer than its product,
the model stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from tasks.worker.optimize.quality import LOWEST_COSINE, lowest_cosine, probe_vectors

USUAL_TOKENS = 1024  # in a batch, for which the order is chosen; it serves others


class Packed(nn.Module):
    """The product of one `nn.Linear`."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), USUAL_TOKENS)  # noqa: SLF001
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(..., in_features) to (..., out_features), in bfloat16."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._weight, self._bias, "none", [], "")  # noqa: SLF001
        return product


def pack_weights(model: SentenceTransformer) -> bool:
    """Pack a bfloat16 model's layers for the CPU; False: they stay as they were."""
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
            if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:  # one that inherits may do more
                yield parent, name, child
