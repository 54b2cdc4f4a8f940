"""Notes of a run where the job or an earlier version departs from what the model's own files ask for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from tasks.adapters.checkpoint.checkpoint import read_pin
from tasks.domain.digest import digest
from tasks.domain.errors import KitestringError
from tasks.domain.job.encoder import ENCODERS
from tasks.run.preflight import Inspected

MADE_FOR = {"COSINE": "cosine similarity", "IP": "dot product", "L2": "Euclidean distance"}


def metric_of(inspected: Inspected) -> str:
    """The metric of a new collection: the job's, or the one that the model was trained for."""
    target = inspected.job.target
    if ENCODERS[inspected.job.encoder.kind].sparse:
        return "IP"
    if target.metric != "auto":
        return target.metric
    return "COSINE" if target.stored_as.vector_type == "int8" else inspected.model.metric or "COSINE"


def model_notes(inspected: Inspected, metric: str) -> Iterator[str]:
    """Yield notes on a run's encoder. `metric`: of its collection."""
    model, encoder = inspected.model, inspected.job.encoder
    if model.metric and model.metric != metric:
        yield (
            f"the model is made for {MADE_FOR[model.metric]}, and the collection compares by {metric}: "
            f"target.metric: {model.metric} needs a new collection"
        )
    if model.other_similarity:
        yield f"the model is made for a similarity that Milvus does not have ({model.other_similarity}): the collection compares by {metric}"
    if model.metric in {"IP", "L2"} and getattr(encoder, "normalize", False):
        yield (
            f"the model is made for {MADE_FOR[model.metric]}, and encoder.normalize scales each vector to length 1, so hits are ranked "
            "as by cosine similarity: encoder.normalize: false keeps the lengths"
        )
    if model.resolved and _embedded_before(inspected):
        settings = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in model.resolved.items())
        yield (
            f"rows are embedded as the model asks ({settings}), which an earlier version did not do: this is another encoding, "
            "and rows embedded before are embedded again"
        )


def _embedded_before(inspected: Inspected) -> bool:
    """Whether the same job pinned its encoder in a version that did not distinguish queries and documents."""
    earlier = digest({"encoder": inspected.job.encoder.declared, "weights": inspected.model.weights})
    with suppress(KitestringError):  # a damaged pin
        return read_pin(inspected.store, inspected.job.corpus, earlier) is not None
    return False
