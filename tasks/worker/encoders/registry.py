"""Opens encoders of every kind. A new kind needs a file in this folder and a line in `tasks.domain.job.encoder.ENCODERS`."""

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
    """Load a model. Imports only the library of this encoder, since the import takes most of the time.

    Args:
        encoder: the job's settings.
        model_path: local folder or file with the weights, or a tag of open_clip.
        precision: the model's compute precision; vectors are always float32.
        compute: batch settings; defaults to those of a search.
        place: device and threads; defaults to the CPU.
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
    except Exception as error:  # a library's error about the model, which another launch would not solve
        raise BadInput(f"encoder: the model does not run in {precision}: {first_line(error)}") from error
    return loaded


def import_library(kind: str) -> Any:
    """Import the module of an encoder kind, which takes most of the time of opening one; return its class."""
    module, _, name = ENCODERS[kind].worker.partition(":")
    return getattr(import_quickly(module), name)
