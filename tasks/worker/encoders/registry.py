"""Every kind of encoder behind one door."""

from __future__ import annotations

from tasks.domain.encoding.tuning import Backend
from tasks.domain.errors import BadInput
from tasks.domain.job.encoder import Encoder, OpenClipEncoder, Precision
from tasks.domain.job.job import Compute
from tasks.worker.base import LoadedEncoder
from tasks.worker.system.lazy_imports import import_quickly
from tasks.worker.system.placement import Place


def open_encoder(
    encoder: Encoder,
    *,
    model_path: str,
    precision: Precision,
    compute: Compute | None = None,
    place: Place | None = None,
    backend: Backend = "torch",
) -> LoadedEncoder:
    """Load a model. Only the library that this encoder needs is imported: the import is most of the time.

    Args:
        encoder: as the job says it.
        model_path: local folder or file with the weights, or open_clip's tag.
        precision: what the model computes in; vectors are float32 in any case.
        compute: how batches are made; left out, as for a search.
        place: device and threads; left out, the CPU.
        backend: what runs the model.

    Raises:
        BadInput: the model cannot be loaded, or a setting does not fit it.
    """
    compute, place = compute or Compute(num_workers=0), place or Place()
    if isinstance(encoder, OpenClipEncoder):
        if backend != "torch":
            raise BadInput(f"compute.backend {backend} runs text encoders only: set it to torch or auto")
        from tasks.worker.encoders.open_clip import ImageEncoder  # noqa: PLC0415 - takes seconds

        return ImageEncoder(encoder, model_path=model_path, precision=precision, compute=compute, place=place)
    import_quickly("tasks.worker.encoders.sentence_transformers")
    from tasks.worker.encoders.sentence_transformers import TextEncoder  # noqa: PLC0415 - takes seconds

    return TextEncoder(encoder, model_path=model_path, precision=precision, compute=compute, place=place, backend=backend)


def import_library(kind: str) -> None:
    """Import what an encoder of a kind needs, so that its time is known apart from the model's."""
    import_quickly("tasks.worker.encoders.open_clip" if kind == "open-clip" else "tasks.worker.encoders.sentence_transformers")
