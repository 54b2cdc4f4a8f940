"""Runs the transformer of a sentence-transformers model with OpenVINO; the library does everything before and after it.

optimum-intel, which offers this, supports neither the transformers nor the safetensors version that this project pins
(constraints.txt; pip: "optimum-intel[openvino] 2.2.0 depends on transformers<5.6"). For an encoder it would only call OpenVINO's
own converter once.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from tasks.domain.encoder_identity import Precision
from tasks.domain.errors import BadInput
from tasks.worker.encoding_errors import first_line
from tasks.worker.optimize.int8 import digest_of, quantize, unpack
from tasks.worker.optimize.quality import LOWEST_COSINE, PROBE_TEXTS, lowest_cosine, probe_vectors
from tasks.worker.system.lazy_imports import import_disabled
from tasks.worker.system.placement import LoadOrQuantize

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # int8: for layers that are not quantised
CALIBRATED_AT_ONCE = 4  # texts
OUTPUT = "last_hidden_state"


def use_openvino(
    model: SentenceTransformer,
    *,
    precision: Precision,
    threads: int,
    name: str,
    int8: LoadOrQuantize | None = None,
    prompt: str | None = None,
) -> str:
    """Replace a float32 model's transformer by one that OpenVINO runs.

    Args:
        model: on the CPU, in float32; its weights are released.
        precision: float32, bfloat16 or int8.
        threads: number of threads for a batch.
        name: the model's name, for messages.
        int8: with int8, returns the quantised model.
        prompt: the rows' prompt, used in calibration.

    Returns:
        The digest of the quantised model; empty for other precisions.

    Raises:
        BadInput: OpenVINO cannot run the model, or its vectors differ too much.
    """
    try:
        openvino = _openvino()
    except ImportError as error:
        raise BadInput(
            "compute.backend is 'openvino', which is not installed: pip install -e '.[openvino]' in Kitestring's folder"
        ) from error
    try:
        before = probe_vectors(model)
        with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
            transformer: Any = model[0].model
            inputs = _inputs(model)
            names, tensors = list(inputs), tuple(inputs.values())
            traced = torch.jit.trace(_ByPosition(transformer, names).eval(), tensors, check_trace=False)  # type: ignore[no-untyped-call]
            core = _core()  # before NNCF creates one
            converted, digest = openvino.convert_model(traced, example_input=tensors), ""
            if int8 is not None:
                quantized = int8(lambda texts: quantize(openvino, converted, _calibration(model, texts, names, prompt)))
                converted, digest = unpack(openvino, quantized), digest_of(quantized)
            settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            # With pinning, every rank would pin its threads to the same first cores.
            compiled = core.compile_model(converted, "CPU", {**settings, "ENABLE_CPU_PINNING": False})
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"compute.backend: OpenVINO cannot run encoder.model '{name}': {first_line(error)}: use torch") from error
    model[0].model = CompiledTransformer(transformer.config, compiled, names)
    try:
        lowest = lowest_cosine(before, probe_vectors(model))
    except Exception as error:
        raise BadInput(f"compute.backend: OpenVINO cannot run encoder.model '{name}': {first_line(error)}: use torch") from error
    if not lowest >= LOWEST_COSINE and precision != "int8":  # int8 is compared on the corpus' rows
        raise BadInput(
            f"compute.backend: OpenVINO's vectors of encoder.model '{name}' differ from torch's (cosine {lowest:.5f}): use torch"
        )
    return digest


class CompiledTransformer(nn.Module):
    """Replaces the transformer: takes and returns tensors."""

    def __init__(self, config: Any, compiled: Any, names: list[str]) -> None:
        super().__init__()
        self.config, self._names = config, names
        self._request = compiled.create_infer_request()

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        inputs = [features[name].numpy() for name in self._names]
        outputs = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        return {OUTPUT: torch.from_numpy(outputs[0])}  # valid until the next call; pooled before that


class _ByPosition(nn.Module):
    """The transformer with positional arguments and one output, as tracing requires."""

    def __init__(self, transformer: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._transformer, self._names = transformer, names

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self._transformer(**dict(zip(self._names, tensors, strict=True)), return_dict=True)[OUTPUT]


def _calibration(model: SentenceTransformer, texts: Sequence[str], names: Sequence[str], prompt: str | None) -> list[dict[str, np.ndarray]]:
    """Return the transformer's inputs for the texts, in batches of similar length."""
    by_length = sorted(texts, key=len)
    batches = [by_length[at : at + CALIBRATED_AT_ONCE] for at in range(0, len(by_length), CALIBRATED_AT_ONCE)]
    inputs = [_inputs(model, batch, prompt) for batch in batches]
    return [{name: tensors[name].numpy() for name in names} for tensors in inputs]


def _inputs(model: SentenceTransformer, texts: Sequence[str] = PROBE_TEXTS[:2], prompt: str | None = None) -> dict[str, torch.Tensor]:
    """Return the tensors by name that the library passes to the transformer for some texts."""
    transformer: Any = model[0].model
    inputs: dict[str, torch.Tensor] = {}
    original = transformer.forward

    def recording(**named: Any) -> Any:
        inputs.update({name: value for name, value in named.items() if isinstance(value, torch.Tensor)})
        return original(**named)

    transformer.forward = recording  # a hook would not run: the library calls `forward` directly
    try:
        model.encode(list(texts), prompt=prompt, batch_size=len(texts), show_progress_bar=False)
    finally:
        del transformer.forward
    return inputs


@cache
def _core() -> Any:
    """Return the runtime, a single one for the life of the process.

    Its CPU plugin installs an alternate signal stack on the thread that loads it. When two cores were released in another order than
    they had been created, the thread kept that stack after it was unmapped (2026.4.1), and the next handled signal, SIGTERM or an
    alarm, ended the process silently.
    """
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which would send data for every conversion; OpenVINO works without it."""
    with import_disabled("openvino_telemetry"):
        importlib.import_module("openvino.tools.ovc")  # the implementation of convert_model
        return importlib.import_module("openvino")
