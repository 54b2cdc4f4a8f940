"""Measured rates of an encoder on a kind of machine, stored with the checkpoint."""

from __future__ import annotations

import logging

from tasks.adapters.checkpoint.json_documents import read_document, utc_now, write_document
from tasks.adapters.processes.hardware import launch_for, machine_digest
from tasks.domain.errors import KitestringError, Newer
from tasks.domain.estimate.rates import Observation, Rates, rates_key
from tasks.run.context import Run
from tasks.run.preflight import Inspected

log = logging.getLogger("kitestring.run")


def read_rates(inspected: Inspected) -> Rates:
    """The measured rates of the job's encoder on this kind of machine; none if the document cannot be read."""
    try:
        return _read(inspected)
    except Newer:
        return Rates()


def _read(inspected: Inspected) -> Rates:
    return read_document(inspected.store, key_of_rates(inspected), Rates, damages=inspected.damages) or Rates()


def key_of_rates(inspected: Inspected) -> str:
    """The key of the rates in the checkpoint store."""
    job = inspected.job
    return rates_key(job.corpus, inspected.declared, machine_digest(job.compute, launch_for(job)))


def keep_rates(run: Run, *, seconds: float) -> None:
    """Store the rates of a run for later estimates. Only warns if the store refuses them.

    Args:
        run: a finished run without failed shards.
        seconds: from its start to its proof.
    """
    encoding, stages = run.engine.progress(), run.journal.stages
    if not encoding.rows:
        return
    observed = Observation(
        kind="run",
        at=utc_now(),
        rows=encoding.rows,
        tokens=encoding.tokens,
        encode_seconds=encoding.seconds,
        startup_seconds=sum(encoding.startup.values()),
        loaded=run.journal.loaded,
        load_seconds=stages.get("load", 0.0),
        seconds=seconds,
    )
    note_rate(run.inspected, observed)


def note_rate(inspected: Inspected, observed: Observation) -> None:
    """Store an observation in the checkpoint. If two runs end at once, one observation may be lost."""
    try:
        write_document(inspected.store, key_of_rates(inspected), _read(inspected).noting(observed))
    except KitestringError as error:
        log.warning("the measured rate could not be stored: %s", error)
