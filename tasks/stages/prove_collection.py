"""Audit: only verify the collection, for schedules."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.errors import RunFailed
from tasks.domain.job.job import Job
from tasks.run.artifacts import show_proof
from tasks.run.events import Events
from tasks.stages.verify import look_at_proof


@task(name="verify", cache_policy=NO_CACHE)
def prove_collection(job: Job) -> dict[str, Any]:
    """Verify the collection against the seals.

    Raises:
        BadInput: nothing is sealed, or the collection does not exist.
        RunFailed: the collection is not proved.
    """
    events = Events(job.corpus)
    with events.of_failure():
        proof = look_at_proof(job)
        show_proof(job.corpus, proof)
        figures: dict[str, Any] = proof.model_dump(mode="json")
        if not proof.proved:
            raise RunFailed(f"the collection is not verified: {'; '.join(proof.reasons[:3])}", figures)
        events("run.verified", {"reasons": list(proof.reasons)})
        return figures
