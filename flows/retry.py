"""The flow that retries quarantined rows and loads those that can be embedded now."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from prefect import flow
from prefect.blocks.system import Secret

from flows.parameters import Overrides, resolve_job
from flows.run_names import named
from tasks.domain.job.job import Job
from tasks.domain.shards.shard import Shard
from tasks.run.context import open_run
from tasks.run.group_window import Window, threads
from tasks.run.plan import opened
from tasks.run.seals.rows_to_retry import look_for_rows, nothing_to_retry
from tasks.stages.deduplicate import assign_owners
from tasks.stages.load import load_shards
from tasks.stages.plan_shards import plan_sealed
from tasks.stages.promote import promote_proved
from tasks.stages.report import report_run
from tasks.stages.retry_quarantined import retry_shards
from tasks.stages.rounds import Rounds
from tasks.stages.verify import verify_collection


@flow(name="retry-quarantined", flow_run_name=named("retry"), task_runner=threads(16))
def retry_quarantined(job: Job, overrides: Overrides | None = None, token: Secret | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
    """Retry only the quarantined rows, load those that can be embedded now, verify, report.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"shards.rows": 1000}; other settings keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.

    Raises:
        BadInput: nothing is sealed, or something that the job names does not fit.
        RunFailed: something is missing, too many rows are still quarantined, or the collection is not verified.
    """
    job = resolve_job(job, overrides, token)
    with open_run(job) as run:
        plan = plan_sealed(run)
        retryable = look_for_rows(plan)
        retryable.refuse_if_idle(plan)
        if retryable.idle:
            return nothing_to_retry(plan)
        retryable.note_unsealed(run, plan)
        with opened(plan) as collection:
            retries = job.failures.retries
            retry = partial(retry_shards.with_options(retries=retries).submit, run, plan)
            load = partial(load_shards.with_options(retries=retries).submit, run, plan, collection)
            width, release = partial(getattr, run.engine, "width"), run.engine.release

            rounds = Rounds(run, plan, collection, loaded=(), seals=True)

            def one_round(groups: Iterator[list[Shard]]) -> dict[str, Any]:
                Window(retry, load, width=width, finish=run.journal.finish_group, first_over=release).run(groups)
                release()
                rounds.check()
                assign_owners(run, plan, collection)
                proof = verify_collection(run, plan, collection)
                queries = promote_proved(run, plan, collection, proof)
                return report_run(run, plan, collection, proof, queries)

            return rounds.go(one_round)
