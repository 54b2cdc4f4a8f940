"""Dry run: encode a sample with the real encoders, seal and load nothing, and estimate the time and cost of a run."""

from __future__ import annotations

import logging
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.sources.sampling import Effort
from tasks.domain.estimate.formatting import estimate_headline
from tasks.domain.estimate.rates import Observation
from tasks.domain.job.job import Job
from tasks.run.artifacts import show_estimate
from tasks.run.context import Run, open_run
from tasks.run.estimate.estimator import Estimator
from tasks.run.estimate.rate_history import note_rate
from tasks.run.estimate.sampled_rows import rows_for_ranks
from tasks.stages.plan_shards import plan_shards

SAMPLED_TEXTS, SAMPLED_PICTURES = 512, 64  # at each place of the sample
log = logging.getLogger("kitestring.run")


def try_out(job: Job) -> dict[str, Any]:
    """Encode a sample as a run would, and estimate the run. Only the measured rate is stored.

    Returns:
        The output of `plan --json`, with `dry_run` and the measurements.

    Raises:
        BadInput: as a run does.
    """
    with open_run(job, dry=True) as run:
        plan = plan_shards(run)
        estimator = Estimator(run.inspected, plan.spool, plan)
        measured = dry_run_rate(run, estimator) if estimator.left.to_encode else None
        run.engine.release()
        if measured:
            note_rate(run.inspected, measured)
        estimate = estimator.estimate()
        log.info("dry run: %s", estimate_headline(estimate))
        show_estimate(job.corpus, estimate)
        return {"dry_run": True, **estimator.figures(estimate), "measured": measured.model_dump(mode="json") if measured else None}


@task(name="measure", cache_policy=NO_CACHE)
def dry_run_rate(run: Run, estimator: Estimator) -> Observation | None:
    """Encode rows from all over the corpus for some seconds; None if the sample has no valid row.

    Raises:
        BadInput: the encoder cannot be loaded.
    """
    at_a_place = SAMPLED_TEXTS if run.job.source.modality == "text" else SAMPLED_PICTURES
    with run.journal.during("encode"):
        sample = estimator.sample(Effort(rows=at_a_place, bytes=64 << 20))
        return run.engine.measure(rows_for_ranks(run.inspected, sample)) if sample.rows else None
