"""The flow that verifies a collection against its seals, for schedules. Encodes and loads nothing."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.blocks.system import Secret

from flows.parameters import Overrides, resolve_job
from flows.run_names import named
from tasks.domain.job.job import Job
from tasks.stages.prove_collection import prove_collection


@flow(name="audit-collection", flow_run_name=named("audit"))
def audit_collection(job: Job, overrides: Overrides | None = None, token: Secret | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
    """Verify a collection against its seals; the next run loads missing rows again.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"target.uri": "http://milvus:19530"}; other settings keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.

    Raises:
        BadInput: something that the job names is missing, or nothing is sealed or loaded.
        RunFailed: the collection is not verified.
    """
    return prove_collection(resolve_job(job, overrides, token))
