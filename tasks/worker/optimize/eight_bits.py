"""int8 and float8 on GPUs: replaces the linear layers of a 16-bit model by layers that multiply in 8 bits. The rest stays in 16 bits.

int8 is LLM.int8 of bitsandbytes: each token's activations have their own scale, and the columns in which a token of the batch has an
outlier are multiplied in float16. float8 is torch's own scaled product: each token and each output channel has its own scale.
torchao's float8 uses the same product, but it refuses CPUs, where this code is tested, and transformers imports torchao wherever it
is installed, which costs every rank 0.65 s.

Neither is calibrated: the same weights give the same layers on any machine, so a corpus stores no model. A rounding difference
between batches can move an activation by a step of 8 bits, so a row's vector alone and in a batch differ as much as either differs
from float32's.
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
from tasks.worker.system.lazy_imports import import_disabled

SIXTEEN_BITS: Final[dict[Precision, str]] = {"int8": "float16", "float8": "bfloat16"}  # precision of the other layers
OUTLIER = 6.0  # threshold of activations; the library's own value for LLM.int8
FLOAT8, FLOAT8_MAX = torch.float8_e4m3fn, 448.0
SMALLEST = 1e-12  # scale of a row of zeros
ALIGNED = 16  # float8 kernels need sizes that are multiples of this


def has_eight_bits(precision: Precision, backend: Backend) -> bool:
    """Return whether layers are replaced; OpenVINO quantises a model as a whole."""
    return precision in SIXTEEN_BITS and backend == "torch"


def loaded_in(precision: Precision) -> Precision:
    """Return the precision in which weights are read."""
    return SIXTEEN_BITS.get(precision, precision)  # type: ignore[return-value]


def replace_linear_layers(model: nn.Module, precision: Precision) -> str:
    """Replace a model's linear layers, each on its own device.

    Args:
        model: in `loaded_in(precision)`; its layers release their weights one after another.
        precision: int8 or float8.

    Returns: how many layers were replaced, in words.

    Raises:
        BadInput: the model has no suitable layer.
    """
    linear = [(parent, name, layer) for parent in model.modules() for name, layer in parent.named_children() if type(layer) is nn.Linear]
    suitable = linear if precision == "int8" else [each for each in linear if not any(size % ALIGNED for size in each[2].weight.shape)]
    if not suitable:
        raise BadInput(f"encoder.precision {precision}: the model has no linear layer that can be computed in it: set it to auto")
    for parent, name, layer in suitable:
        setattr(parent, name, _llm_int8(layer) if precision == "int8" else Float8Linear(layer))
    return f"{len(suitable)} of {len(linear)} linear layers in {LLM_INT8 if precision == 'int8' else precision}"


class Float8Linear(nn.Module):
    """A linear layer with float8 weights; its activations are scaled to float8 token by token."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = _to_float8(linear.weight.data)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale.t())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.data.to(torch.bfloat16))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        functional: Any = nn.functional
        by_row = functional.ScalingType.RowWise
        tokens, scale = _to_float8(rows.reshape(-1, rows.shape[-1]))
        weight: Any = self.weight
        product: torch.Tensor = functional.scaled_mm(
            tokens, weight.t(), scale, by_row, self.scale, by_row, bias=self.bias, output_dtype=torch.bfloat16, use_fast_accum=True
        )
        return product.reshape(*rows.shape[:-1], -1).to(rows.dtype)


def _to_float8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert rows to float8; return them with their scales, a float32 column."""
    wide = rows.float()
    scale = wide.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST) / FLOAT8_MAX
    return (wide / scale).to(FLOAT8), scale


def _llm_int8(linear: nn.Linear) -> nn.Module:
    layers = bitsandbytes().nn
    out_features, in_features = linear.weight.shape
    made: nn.Module = layers.Linear8bitLt(
        in_features, out_features, bias=linear.bias is not None, has_fp16_weights=False, threshold=OUTLIER, device="meta"
    )
    made.weight = layers.Int8Params(
        linear.weight.data.cpu(), requires_grad=False, has_fp16_weights=False
    )  # quantised on its way from the CPU
    made.bias = linear.bias
    return made.to(linear.weight.device)


def bitsandbytes() -> Any:
    """Import bitsandbytes without the 4-bit kernels, which it would download if the `kernels` package is installed.

    Raises:
        BadInput: it is not installed, or is not built for this machine.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns about those kernels, and about every input that is not float16
    try:
        with import_disabled("kernels"):
            return importlib.import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(
            f"encoder.precision int8 on GPUs needs bitsandbytes: pip install -e '.[lowbits]' in Kitestring's folder ({error})"
        ) from error
