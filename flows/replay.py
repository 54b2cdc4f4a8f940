"""The flow that loads a collection from seals, into another server or database, without a GPU."""

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
from tasks.stages.bulk_import import import_shards, imports
from tasks.stages.deduplicate import assign_owners
from tasks.stages.load import load_shards
from tasks.stages.plan_shards import plan_sealed
from tasks.stages.promote import promote_proved
from tasks.stages.remove_stale import load_retained, remove_stale
from tasks.stages.report import report_run
from tasks.stages.rounds import Rounds
from tasks.stages.verify import verify_collection

LOADERS = 4


@flow(name="replay-seals", flow_run_name=named("replay"), task_runner=threads(4 * LOADERS))
def replay_seals(job: Job, overrides: Overrides | None = None, token: Secret | None = None) -> dict[str, Any]:  # type: ignore[type-arg]
    """Load the sealed shards that are not yet in the target, verify, report.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"shards.rows": 1000}; other settings keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.

    Raises:
        BadInput: nothing is sealed, or something that the job names does not fit.
        RunFailed: a shard is not sealed or could not be loaded, or the collection is not verified.
    """
    job = resolve_job(job, overrides, token)
    with open_run(job) as run:
        plan = plan_sealed(run)
        with opened(plan) as collection:
            retries = job.failures.retries
            load = partial(load_shards.with_options(retries=retries).submit, run, plan, collection, mend=False)
            if imports(plan, collection):
                import_shards(run, plan, collection)

            rounds = Rounds(run, plan, collection, encodes=False)

            def one_round(groups: Iterator[list[Shard]]) -> dict[str, Any]:
                with run.journal.counting("shards", plan.spool.shards) as count:

                    def finish(group: list[Shard], error: Exception | None) -> None:
                        run.journal.finish_group(group, error)
                        count(len(group))

                    Window(load, width=LOADERS, finish=finish).run(groups)
                rounds.check()
                assign_owners(run, plan, collection)
                load_retained(run, plan, collection)
                remove_stale(run, plan, collection)
                proof = verify_collection(run, plan, collection)
                queries = promote_proved(run, plan, collection, proof)
                return report_run(run, plan, collection, proof, queries)

            return rounds.go(one_round)
