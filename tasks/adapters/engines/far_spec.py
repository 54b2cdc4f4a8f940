"""Prepares a run's settings for other machines."""

from __future__ import annotations

import os

from tasks.adapters.files.local_files import is_local
from tasks.adapters.models.model_files import LocatedModel
from tasks.domain.encoding.encoding_spec import EncodingSpec
from tasks.domain.errors import BadInput
from tasks.domain.job.references import SCHEME

MODELS = ("model", "pretrained")  # encoder settings that may be a path


def spec_for_afar(spec: EncodingSpec, *, shared: bool, model: LocatedModel | None = None) -> EncodingSpec:
    """The spec with absolute paths and the hub model's commit, since its branch may move before a host downloads it.

    Args:
        spec: the spec of the flow's machine.
        model: the model on the flow's machine.
        shared: whether the job states that every host has the flow's folders at the same paths.

    Raises:
        BadInput: the checkpoint or the source is a folder and `shared` is false.
    """
    job = spec.job
    for setting, place in (("checkpoint", job.checkpoint), ("source.uri", job.source.uri)):
        if is_local(place) and not shared:
            raise BadInput(
                f"{setting}: hosts of compute.engine.kind: {job.compute.engine.kind} cannot reach the folder '{place}': use s3://bucket/prefix,"
                " or set compute.engine.shared: true where every host has it mounted at the same path"
            )
    source = job.source.model_copy(update={"uri": _absolute(job.source.uri)})
    models = {name: _absolute(place) for name in MODELS if (place := getattr(job.encoder, name, "")).startswith(".")}
    pinned = {"revision": model.revision} if model and model.revision and job.encoder.from_hub else {}
    changed = job.model_copy(
        update={"checkpoint": _absolute(job.checkpoint), "source": source, "encoder": job.encoder.model_copy(update=models | pinned)}
    )
    return spec.model_copy(update={"job": changed})


def _absolute(place: str) -> str:
    return os.path.abspath(os.path.expanduser(place)) if SCHEME.match(place) is None else place  # noqa: PTH100, PTH111 - may be a glob
