"""int8 on CPUs: OpenVINO's post-training quantisation (NNCF), calibrated on a sample of the corpus.

The result depends on the calibration rows, so a model is quantised once: the first rank 0 of a corpus stores it in the checkpoint,
all other ranks and later runs use it, and its digest is part of the encoder's identity.

Weights use half of the 8-bit range (`OverflowFix.ENABLE`): processors without VNNI accumulate products in 16 bits, which would
otherwise overflow, and vectors would depend on the processor. torch's dynamic quantisation is no substitute: it scales the
activations of a whole batch together, so a row's vector would depend on the rows in its batch.
"""

from __future__ import annotations

import hashlib
import importlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.adapters.object_store.registry import open_store
from tasks.domain.encoding.protocol import Assignment
from tasks.domain.encoding.tuning import LLM_INT8, Backend
from tasks.domain.errors import BadInput
from tasks.worker.system.lazy_imports import import_disabled

LOWEST_MEAN_COSINE = 0.9  # to float32; below it the model is unsuitable for 8 bits
MODEL = "model.xml"


def load_or_quantize(assignment: Assignment, make: Callable[[Sequence[str]], bytes]) -> bytes:
    """Load the quantised model of a corpus, or make and store it.

    Args:
        assignment: has its key in the store, and its digest if the corpus has vectors made with it.
        make: quantises with some rows of the corpus; called if no model is stored yet.

    Raises:
        BadInput: the model is missing or damaged, or there is no row to calibrate with.
    """
    store, key = open_store(assignment.store, proven=True), assignment.quantized_key
    data = store.read(key)
    if data is None and not assignment.quantized:
        if not assignment.sample:
            raise BadInput("encoder.precision is 'int8', and the source has no row to calibrate with")
        made = make(assignment.sample)
        data = made if store.commit(key, made) else store.read(key)
    if data is None or (assignment.quantized and digest_of(data) != assignment.quantized):
        problem = "is missing" if data is None else "was changed"
        raise BadInput(
            f"{store.url}/{key}: the quantised model that this corpus was embedded with {problem}: restore it, or start another corpus"
        )
    return data


def check_same_int8(assignment: Assignment, backend: Backend) -> None:
    """Raise BadInput if the corpus was embedded with the other int8 backend."""
    if assignment.quantized and (assignment.quantized == LLM_INT8) != (backend == "torch"):
        before = "by torch (bitsandbytes)" if assignment.quantized == LLM_INT8 else "by OpenVINO on CPUs"
        cure = f"set compute.backend to {'torch' if assignment.quantized == LLM_INT8 else 'openvino'}, or start another corpus"
        raise BadInput(
            f"encoder.precision is 'int8', and this corpus was embedded in int8 {before}, but here {backend} computes it: {cure}"
        )


def digest_of(data: bytes) -> str:
    """Return the digest of a quantised model as stored."""
    return hashlib.sha256(data).hexdigest()[:32]


def quantize(openvino: Any, converted: Any, inputs: Sequence[dict[str, np.ndarray]]) -> bytes:
    """Quantise a model.

    Args:
        openvino: the module.
        converted: the model in float32.
        inputs: calibration batches, each a dict of arrays by input name.
    """
    nncf = quantizer()
    dataset = nncf.Dataset(list(inputs), lambda batch: list(batch.values()))
    settings = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE)
    made = nncf.quantize(converted, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(inputs), advanced_parameters=settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        openvino.save_model(made, path, compress_to_fp16=False)
        packed = Path(folder) / "model.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            for file in (path, path.with_suffix(".bin")):
                archive.write(file, file.name)
        return packed.read_bytes()


def unpack(openvino: Any, data: bytes) -> Any:
    """Read a quantised model as stored; the result can be compiled."""
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "model.zip"
        packed.write_bytes(data)
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # the files are deleted before it is compiled
        return core.read_model(Path(folder) / MODEL)


def quantizer() -> Any:
    """Import NNCF without its telemetry.

    Raises:
        BadInput: it is not installed.
    """
    try:
        with import_disabled("openvino_telemetry"):
            return importlib.import_module("nncf")
    except ImportError as error:
        raise BadInput(
            "encoder.precision is 'int8', which needs OpenVINO and NNCF: pip install -e '.[int8]' in Kitestring's folder"
        ) from error
