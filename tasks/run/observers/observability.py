"""Export of metrics and traces of a run to a collector, and of its lineage to a data catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tasks.adapters.metrics.exporters import Exported, exported, metrics_settings
from tasks.adapters.metrics.instruments import RunInstruments
from tasks.adapters.metrics.lineage import Lineage, lineage_of
from tasks.domain.job.credentials import without_credentials
from tasks.domain.job.job import Job
from tasks.run.observers.live_progress import flow_name
from tasks.run.progress import Journal


def check_observers(job: Job) -> None:
    """Check that the metrics and lineage that a job asks for are available.

    Raises:
        BadInput: an extra is not installed, or an exporter is not supported.
    """
    metrics_settings(job.metrics)
    lineage_of(job.lineage)


@contextmanager
def observed(job: Job, run: str, journal: Journal) -> Iterator[None]:
    """Export the metrics, traces and lineage that the job asks for while the body runs, and how it ended."""
    with ExitStack() as stack:
        if metrics := metrics_settings(job.metrics):
            stack.enter_context(_with_metrics(stack.enter_context(exported(metrics, run=run)), job, journal))
        if lineage := lineage_of(job.lineage):
            stack.enter_context(_with_lineage(Lineage(lineage, job, run), journal))
        yield


@contextmanager
def _with_metrics(out: Exported, job: Job, journal: Journal) -> Iterator[None]:
    instruments = RunInstruments(out.meter, {"corpus": job.corpus, "flow": flow_name()})
    journal.listeners.append(instruments)
    journal.span = out.span
    try:
        with out.span("run"):
            yield
    except Exception:
        instruments.fail()
        raise
    finally:
        instruments(journal.snapshot(ended=True))


@contextmanager
def _with_lineage(lineage: Lineage, journal: Journal) -> Iterator[None]:
    lineage.start()
    try:
        yield
    except Exception as error:
        lineage.fail(without_credentials(str(error)))
        raise
    now = journal.snapshot(ended=True)
    lineage.complete(now.encoded + now.reused, now.bytes)
