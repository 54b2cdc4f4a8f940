"""The flow that repairs a collection from its seals."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.blocks.system import Secret

from flows.parameters import Overrides, resolve_job
from flows.run_names import named
from tasks.domain.job.job import Job
from tasks.run.context import open_run
from tasks.run.group_window import threads
from tasks.run.plan import opened
from tasks.stages.plan_shards import plan_sealed
from tasks.stages.repair_collection import repair_collection
from tasks.stages.report import report_run
from tasks.stages.rounds import Rounds


@flow(name="repair-collection", flow_run_name=named("repair"), task_runner=threads(4))
def repair_from_seals(job: Job, overrides: Overrides | None = None, token: Secret | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
    """Compare every row with its seal, repair differing rows without encoding, compare every row again, report.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"target.uri": "http://milvus:19530"}; other settings keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.

    Raises:
        BadInput: nothing is sealed, or the collection does not exist.
        RunFailed: rows are missing that no seal has, or the collection is not verified.
    """
    job = resolve_job(job, overrides, token)
    with open_run(job) as run:
        plan = plan_sealed(run)
        with opened(plan) as collection:
            rounds = Rounds(run, plan, collection, encodes=False)

            def one_round(_groups: object) -> dict[str, Any]:
                rounds.check()
                proof = repair_collection(run, plan, collection)
                return report_run(run, plan, collection, proof)

            return rounds.go(one_round)
