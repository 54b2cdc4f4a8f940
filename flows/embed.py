"""The main flow: makes a searchable collection from a job. Running it again repeats no finished work."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from prefect import flow
from prefect.blocks.system import Secret
from prefect.states import Completed

from flows.parameters import DryRun, Overrides, resolve_job
from flows.run_names import named
from tasks.domain.job.job import Job
from tasks.domain.shards.shard import Shard
from tasks.run.context import open_run
from tasks.run.early_groups import start_early_groups
from tasks.run.estimate.run_estimate import start_estimate
from tasks.run.group_window import Window, threads
from tasks.run.plan import opened
from tasks.run.seals.shard_loading import up_to_date
from tasks.stages.bulk_import import import_shards, imports
from tasks.stages.deduplicate import assign_owners
from tasks.stages.dry_run import try_out
from tasks.stages.encode import ask_served_model, encode_shards
from tasks.stages.load import load_shards
from tasks.stages.plan_shards import plan_shards
from tasks.stages.promote import promote_proved
from tasks.stages.remove_stale import remove_stale
from tasks.stages.report import report_run
from tasks.stages.rounds import Rounds
from tasks.stages.verify import verify_collection

MOST_THREADS = 400  # upper bound; the window sets how many work. With a hundred hosts, 200 threads wait for a group each


@flow(name="embed-corpus", flow_run_name=named(), task_runner=threads(MOST_THREADS))
def embed_corpus(
    job: Job,
    overrides: Overrides | None = None,
    token: Secret | None = None,  # type: ignore[type-arg]
    dry_run: DryRun = False,
) -> dict[str, Any]:
    """Plan, encode, load, verify, report. Resumes an earlier run.

    Args:
        job: The corpus, the encoder and the collection.
        overrides: Single settings by their dotted path, such as {"shards.rows": 1000}; other settings keep their values.
        token: The Secret block that holds the Milvus token, instead of MILVUS_TOKEN on the worker.
        dry_run: Encode a sample for some seconds and estimate the time, storage and cost of the run. Nothing is sealed or loaded.

    Raises:
        BadInput: something that the job names is missing or does not fit; nothing was written.
        RunFailed: a shard failed, too many rows were quarantined, or the collection is not verified.
    """
    job = resolve_job(job, overrides, token)
    if dry_run:
        return Completed(name="Planned", message="nothing was sealed or loaded: the artifact has the estimate", data=try_out(job))  # type: ignore[return-value]
    with open_run(job) as run:
        retries = job.failures.retries
        width = partial(getattr, run.engine, "width")  # a callable, because hosts join and leave
        encode_by = partial(partial, encode_shards.with_options(retries=retries).submit, run)
        planning = plan_shards.submit(run)
        early = start_early_groups(run, planning, encode_by, width=width)
        plan = planning.result()
        with opened(plan) as collection:
            encode = encode_by(plan)
            load = partial(load_shards.with_options(retries=retries).submit, run, plan, collection)
            loaded = up_to_date(plan)
            left = early.or_loaded(loaded)
            ask_served_model(run, plan, loaded)
            run.expect(*plan.not_loaded(loaded))
            start_estimate(run, plan, loaded)
            if imports(plan, collection):
                window = Window(encode, width=width)
                early.continue_in(window)
                window.run(plan.groups(left))
                run.engine.release(wait=True)  # free the GPUs: an import keeps the server busy for long
                import_shards(run, plan, collection)
                left = up_to_date(plan)
            release = run.engine.release  # while the last shards load, and again after reencoding damaged shards

            rounds = Rounds(run, plan, collection, left)

            def one_round(groups: Iterator[list[Shard]]) -> dict[str, Any]:
                window = Window(
                    encode, load, width=width, loads=job.target.load_streams, finish=run.journal.finish_group, first_over=release
                )
                early.continue_in(window)
                window.run(groups)
                release()
                rounds.check()
                assign_owners(run, plan, collection)
                remove_stale(run, plan, collection)
                proof = verify_collection(run, plan, collection)
                queries = promote_proved(run, plan, collection, proof)
                return report_run(run, plan, collection, proof, queries)

            return rounds.go(one_round)
