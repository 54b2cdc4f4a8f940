"""Every kind of encoder behind one door. A new kind: its files beside this one, and a line in `tasks.domain.job.encoder.ENCODERS`."""

from __future__ import annotations

from typing import Any

from tasks.domain.encoder_identity import Precision
from tasks.domain.encoding.tuning import Backend
from tasks.domain.errors import BadInput, KitestringError
from tasks.domain.job.encoder import ENCODERS, Encoder
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.encoding_errors import Fatal, OutOfMemory, first_line
from tasks.worker.system.lazy_imports import import_quickly
from tasks.worker.system.placement import RankPlacement
from tasks.worker.system.sharing_group import AnotherFailed


def open_encoder(
    encoder: Encoder,
    *,
    model_path: str,
    precision: Precision,
    compute: Compute | None = None,
    place: RankPlacement | None = None,
    backend: Backend = "torch",
) -> LoadedEncoder:
    """Load a model. Only the library that this encoder needs is imported: the import is most of the time.

    Args:
        encoder: as the job says it.
        model_path: local folder or file with the weights, or open_clip's tag.
        precision: what the model computes in; vectors are float32 in any case.
        compute: how batches are made; left out, as for a search.
        place: device and threads; left out, the CPU.
        backend: torch or openvino.

    Raises:
        BadInput: the model cannot be loaded, or a setting does not fit it.
    """
    compute, place = compute or Compute(num_workers=0), place or RankPlacement()
    if backend not in ENCODERS[encoder.kind].backends:
        raise BadInput(f"compute.backend {backend} runs text encoders only: set it to torch or auto")
    kind = import_library(encoder.kind)
    try:
        loaded: LoadedEncoder = kind(encoder, model_path=model_path, precision=precision, compute=compute, place=place, backend=backend)
    except (KitestringError, AnotherFailed, Fatal, OutOfMemory):
        raise
    except Exception as error:  # a library's, over the model: no crash that a new launch might mend
        raise BadInput(f"encoder: the model cannot be run in {precision}: {first_line(error)}") from error
    return loaded


def import_library(kind: str) -> Any:
    """Import what an encoder of a kind needs, which takes most of the time that it takes to open one; its class."""
    module, _, name = ENCODERS[kind].worker.partition(":")
    return getattr(import_quickly(module), name)
