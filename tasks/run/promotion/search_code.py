"""Python code, ready to run, with which an application searches a job's collection."""

from __future__ import annotations

from tasks.domain.job.encoder import ENCODERS
from tasks.domain.job.kinds import declared_at
from tasks.domain.job.target import TARGETS
from tasks.domain.target.collection import CollectionSpec
from tasks.run.preflight import Inspected


def search_code(inspected: Inspected, spec: CollectionSpec) -> str:
    """Code of `embed(words)`, as the job embeds questions, and `search(words, k)` by the alias; "" if the encoder or target has none."""
    job = inspected.job
    question, search = ENCODERS[job.encoder.kind].question, TARGETS[job.target.kind].search
    if not question or not search:
        return ""
    return f"{declared_at(question)(job.encoder, inspected.model)}\n\n\n{declared_at(search)(job.target, spec)}\n"
