"""Checks the hardware and packages that a precision or backend requires, before a model is read."""

from __future__ import annotations

from typing import Final

import torch

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import Backend
from tasks.domain.errors import BadInput
from tasks.worker.optimize.eight_bits import bitsandbytes, has_eight_bits
from tasks.worker.system.placement import RankPlacement

CAPABILITY: Final[dict[Precision, tuple[int, int]]] = {"int8": (7, 5), "float8": (8, 9)}  # Turing; Ada and Hopper
CURE = "set encoder.precision to auto"


def check_requirements(precision: Precision, place: RankPlacement, backend: Backend) -> None:
    """Raise BadInput if the hardware or the installed packages cannot compute the precision."""
    if backend == "openvino":
        _check_openvino(precision, place)
    elif has_eight_bits(precision, backend):
        _check_hardware(precision, place.device)
        _check_packages(precision)


def _check_openvino(precision: Precision, place: RankPlacement) -> None:
    if place.on_gpu or precision in {"float16", "float8"}:
        cure = "set compute.backend to torch" if place.on_gpu else "set encoder.precision to float32, bfloat16, int8 or auto"
        raise BadInput(f"compute.backend openvino runs on CPUs in float32, bfloat16 or int8, not on {place.device} in {precision}: {cure}")
    if precision == "int8" and place.int8 is None:
        raise BadInput(f"encoder.precision int8: OpenVINO quantises a model for a corpus, and there is no corpus here: {CURE}")


def _check_hardware(precision: Precision, device: str) -> None:
    requirement = f"a GPU of compute capability {_format(CAPABILITY[precision])} or later"
    if device.startswith("cuda"):
        capability = torch.cuda.get_device_capability(device)
        if capability < CAPABILITY[precision]:
            raise BadInput(f"encoder.precision {precision} needs {requirement}, but {device} has {_format(capability)}: {CURE}")
    elif precision == "float8":
        raise BadInput(f"encoder.precision float8 needs {requirement}, but the device is {device}: {CURE}")


def _check_packages(precision: Precision) -> None:
    if precision == "int8":
        bitsandbytes()
    elif not hasattr(torch.nn.functional, "scaled_mm"):
        raise BadInput(f"encoder.precision float8 needs torch 2.10 or later, but {torch.__version__} is installed: install it, or {CURE}")


def _format(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
