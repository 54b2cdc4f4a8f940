"""OpenVINO beneath sentence-transformers: it runs the transformer, the library does everything before and after.

optimum-intel, which would do this, admits neither the transformers nor the safetensors that this project is pinned to
(constraints.txt; pip: "optimum-intel[openvino] 2.2.0 depends on transformers<5.6"). What it would do for an
encoder is one call of OpenVINO's own converter.
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
from tasks.worker.system.lazy_imports import absent
from tasks.worker.system.placement import KeptModel

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # int8: of what is not quantised
CALIBRATED_AT_ONCE = 4  # texts
OUTPUT = "last_hidden_state"


def run_by_openvino(
    model: SentenceTransformer, *, precision: Precision, threads: int, name: str, int8: KeptModel | None = None, prompt: str | None = None
) -> str:
    """Put OpenVINO in the place of a float32 model's transformer.

    Args:
        model: on the CPU, in float32; its weights are given up.
        precision: float32, bfloat16 or int8.
        threads: that one batch is computed with.
        name: of the model, for messages.
        int8: of int8: gives the quantised model.
        prompt: of rows, with which it is calibrated.

    Returns:
        Of int8 the digest of the quantised model; otherwise nothing.

    Raises:
        BadInput: OpenVINO cannot run the model, or its vectors are others.
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
            core = _core()  # before NNCF has one
            converted, digest = openvino.convert_model(traced, example_input=tensors), ""
            if int8 is not None:
                kept = int8(lambda texts: quantize(openvino, converted, _calibration(model, texts, names, prompt)))
                converted, digest = unpack(openvino, kept), digest_of(kept)
            settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            # Each of several ranks would pin its threads to the first cores.
            compiled = core.compile_model(converted, "CPU", {**settings, "ENABLE_CPU_PINNING": False})
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"compute.backend: OpenVINO cannot run encoder.model '{name}': {first_line(error)}: use torch") from error
    model[0].model = Compiled(transformer.config, compiled, names)
    try:
        lowest = lowest_cosine(before, probe_vectors(model))
    except Exception as error:
        raise BadInput(f"compute.backend: OpenVINO cannot run encoder.model '{name}': {first_line(error)}: use torch") from error
    if not lowest >= LOWEST_COSINE and precision != "int8":  # which is compared on rows
        raise BadInput(
            f"compute.backend: OpenVINO's vectors of encoder.model '{name}' are others (cosine {lowest:.5f} to torch's): use torch"
        )
    return digest


class Compiled(nn.Module):
    """Stands where the transformer stood: takes and gives tensors."""

    def __init__(self, config: Any, compiled: Any, names: list[str]) -> None:
        super().__init__()
        self.config, self._names = config, names
        self._request = compiled.create_infer_request()

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        given = [features[name].numpy() for name in self._names]
        found = self._request.infer(given, share_inputs=True, share_outputs=True)
        return {OUTPUT: torch.from_numpy(found[0])}  # valid until the next call; pooled before that


class _ByPosition(nn.Module):
    """The transformer with arguments by position and one output, as a trace wants them."""

    def __init__(self, transformer: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._transformer, self._names = transformer, names

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self._transformer(**dict(zip(self._names, tensors, strict=True)), return_dict=True)[OUTPUT]


def _calibration(model: SentenceTransformer, texts: Sequence[str], names: Sequence[str], prompt: str | None) -> list[dict[str, np.ndarray]]:
    """What the transformer is given for some texts, a few of about the same length at once."""
    alike = sorted(texts, key=len)
    batches = [alike[at : at + CALIBRATED_AT_ONCE] for at in range(0, len(alike), CALIBRATED_AT_ONCE)]
    given = [_inputs(model, batch, prompt) for batch in batches]
    return [{name: tensors[name].numpy() for name in names} for tensors in given]


def _inputs(model: SentenceTransformer, texts: Sequence[str] = PROBE_TEXTS[:2], prompt: str | None = None) -> dict[str, torch.Tensor]:
    """The tensors that the library hands to the transformer for some texts, by name."""
    transformer: Any = model[0].model
    found: dict[str, torch.Tensor] = {}
    original = transformer.forward

    def noting(**named: Any) -> Any:
        found.update({name: value for name, value in named.items() if isinstance(value, torch.Tensor)})
        return original(**named)

    transformer.forward = noting  # not a hook: the library calls `forward` itself
    try:
        model.encode(list(texts), prompt=prompt, batch_size=len(texts), show_progress_bar=False)
    finally:
        del transformer.forward
    return found


@cache
def _core() -> Any:
    """The runtime, one as long as the process lives.

    Its CPU plugin lays a stack for signals beneath the thread that loads it. Of two cores that went in another order than they had come, that
    stack was left to the thread when it was no longer mapped (2026.4.1): the next signal that a handler takes, SIGTERM or an alarm, then
    ended the process without a word.
    """
    core = _openvino().Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core


def _openvino() -> Any:
    """OpenVINO without its telemetry, which would call home for every conversion; it does without where it is not there."""
    with absent("openvino_telemetry"):
        importlib.import_module("openvino.tools.ovc")  # what convert_model is made of
        return importlib.import_module("openvino")
