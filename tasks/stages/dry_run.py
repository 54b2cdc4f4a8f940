"""Dry run: the real encoders encode a sample, nothing is sealed or loaded, and a run's time and cost are estimated."""

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
    """Encode a sample as a run would, and estimate the run. Only the measured rate is kept.

    Returns:
        The output of `plan --json`, with `dry_run` and the measurements.

    Raises:
        BadInput: as a run does.
    """
    with open_run(job, dry=True) as run:
        plan = plan_shards(run)
        foresight = Estimator(run.inspected, plan.spool, plan)
        measured = dry_run_rate(run, foresight) if foresight.left.to_encode else None
        run.engine.release()
        if measured:
            note_rate(run.inspected, measured)
        estimate = foresight.estimate()
        log.info("dry run: %s", estimate_headline(estimate))
        show_estimate(job.corpus, estimate)
        seen = measured.model_dump(mode="json") if measured else None
        return {"dry_run": True, **foresight.figures(estimate), "measured": seen}


@task(name="measure", cache_policy=NO_CACHE)
def dry_run_rate(run: Run, foresight: Estimator) -> Observation | None:
    """Encode rows from everywhere in the corpus for some seconds; None where the sample holds no good row.

    Raises:
        BadInput: the encoder cannot be loaded.
    """
    at_a_place = SAMPLED_TEXTS if run.job.source.modality == "text" else SAMPLED_PICTURES
    with run.journal.during("encode"):
        sample = foresight.sample(Effort(rows=at_a_place, bytes=64 << 20))
        return run.engine.measure(rows_for_ranks(run.inspected, sample)) if sample.rows else None
