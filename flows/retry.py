"""The flow that tries quarantined rows again, and loads those that now work."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.blocks.system import Secret

from flows.parameters import Settings, settle
from tasks.domain.job import Job
from tasks.load import load_shards, opened
from tasks.owners import settle_owners
from tasks.plan import plan_sealed
from tasks.promote import promote_proved
from tasks.quarantine import look_for_rows, nothing_to_retry, retry_shards
from tasks.report import report_run
from tasks.run import open_run
from tasks.verify import verify_collection
from tasks.window import Window, threads


@flow(name="retry-quarantined", flow_run_name="{job.corpus}", task_runner=threads(16))
def retry_quarantined(job: Job, overrides: Settings | None = None, token: Secret | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
    """Try only the rows that were set aside once more, load what now works, verify, report.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"shards.rows": 1000}; neighbours keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.

    Raises:
        BadInput: nothing is sealed, or something that the job names does not fit.
        RunFailed: something is missing, too much is still set aside, or the collection is not proved.
    """
    job = settle(job, overrides, token)
    with open_run(job) as run:
        plan = plan_sealed(run)
        found = look_for_rows(plan)
        found.refuse_if_idle(plan)
        if not found.rows:
            return nothing_to_retry(plan)
        found.note_unsealed(run, plan)
        with opened(plan) as collection:
            retries = job.failures.retries
            window = Window(
                lambda group: retry_shards.with_options(retries=retries).submit(run, plan, group),
                lambda group: load_shards.with_options(retries=retries).submit(run, plan, collection, group),
                width=run.launch.ranks + 1,
                finish=run.journal.settle,
                first_over=run.ranks.rest,
            )
            for group in plan.groups(found.unsealed):
                window.push(group)
            window.drain()
            run.ranks.rest()
            settle_owners(run, plan, collection)
            proof = verify_collection(run, plan, collection)
            asked = promote_proved(run, plan, collection, proof)
            return report_run(run, plan, collection, proof, asked)
