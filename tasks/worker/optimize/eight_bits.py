"""int8 and float8 on GPUs: linear layers of a model in 16 bits are exchanged for ones that multiply in 8. All else stays in 16 bits.

int8 is LLM.int8 of bitsandbytes: each token's activations are scaled by themselves, and the columns in which a token of the batch has an
outlier are multiplied in float16. float8 is torch's own scaled product: each token and each output channel has a scale of its own.
torchao's float8 is made of the same product, but it refuses CPUs, where this is tested, and transformers imports torchao wherever it is
installed, which takes every rank 0.65 s.

Neither is calibrated: the same weights give the same layers on any machine, and a corpus keeps nothing. What batches round differently can
move an activation by a step of 8 bits, so a row's vector alone and beside others differ as much as either does from float32's.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

import torch
from torch import nn

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import LLM_INT8, Backend
from tasks.domain.errors import BadInput
from tasks.worker.system.lazy_imports import absent

SIXTEEN_BITS: Final[dict[Precision, str]] = {"int8": "float16", "float8": "bfloat16"}  # what the rest of a model is computed in
OUTLIER = 6.0  # of activations; the library's own for LLM.int8
FLOAT8, FLOAT8_MAX = torch.float8_e4m3fn, 448.0
SMALLEST = 1e-12  # of a row of zeros
ALIGNED = 16  # numbers that kernels of float8 take at once


def has_eight_bits(precision: Precision, backend: Backend) -> bool:
    """Whether layers are exchanged; OpenVINO quantises a model as a whole."""
    return precision in SIXTEEN_BITS and backend == "torch"


def loaded_in(precision: Precision) -> Precision:
    """What weights are read in."""
    return SIXTEEN_BITS.get(precision, precision)  # type: ignore[return-value]


def exchange_layers(model: nn.Module, precision: Precision) -> str:
    """Exchange a model's linear layers, each on its own device.

    Args:
        model: in `loaded_in(precision)`; one layer after the other gives up its weights.
        precision: int8 or float8.

    Returns: how many were exchanged, in words.

    Raises:
        BadInput: it has none that can be.
    """
    linear = [(parent, name, layer) for parent in model.modules() for name, layer in parent.named_children() if type(layer) is nn.Linear]
    fit = linear if precision == "int8" else [found for found in linear if not any(size % ALIGNED for size in found[2].weight.shape)]
    if not fit:
        raise BadInput(f"encoder.precision {precision}: the model has no linear layer that can be computed in it: set it to auto")
    for parent, name, layer in fit:
        setattr(parent, name, _llm_int8(layer) if precision == "int8" else Float8Linear(layer))
    return f"{len(fit)} of {len(linear)} linear layers in {LLM_INT8 if precision == 'int8' else precision}"


class Float8Linear(nn.Module):
    """A linear layer whose weights are kept in float8, and whose activations are scaled to it token by token."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _to_float8(linear.weight.data)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.data.to(torch.bfloat16))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        functional: Any = nn.functional
        by_row = functional.ScalingType.RowWise
        tokens, scale = _to_float8(given.reshape(-1, given.shape[-1]))
        weight: Any = self.weight
        found: torch.Tensor = functional.scaled_mm(
            tokens, weight.t(), scale, by_row, self.scale, by_row, bias=self.bias, output_dtype=torch.bfloat16, use_fast_accum=True
        )
        return found.reshape(*given.shape[:-1], -1).to(given.dtype)


def _to_float8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in float8, and the scale of each: a column of float32."""
    wide = rows.float()
    scale = wide.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST) / FLOAT8_MAX
    return (wide / scale).to(FLOAT8), scale


def _llm_int8(linear: nn.Linear) -> nn.Module:
    layers = bitsandbytes().nn
    out, given = linear.weight.shape
    made: nn.Module = layers.Linear8bitLt(
        given, out, bias=linear.bias is not None, has_fp16_weights=False, threshold=OUTLIER, device="meta"
    )
    made.weight = layers.Int8Params(
        linear.weight.data.cpu(), requires_grad=False, has_fp16_weights=False
    )  # quantised on its way from the CPU
    made.bias = linear.bias
    return made.to(linear.weight.device)


def bitsandbytes() -> Any:
    """bitsandbytes, without the kernels of 4 bits that it would download where a package for that is installed.

    Raises:
        BadInput: it is not installed, or is not built for this machine.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of those kernels, and of each input that is not in float16
    try:
        with absent("kernels"):
            return importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(
            f"encoder.precision int8 on GPUs needs bitsandbytes: pip install -e '.[lowbits]' in Kitestring's folder ({error})"
        ) from error
