"""Report: the outcome of every row, the time of each stage, and the result of the verification."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.checkpoint.past_reports import report_before
from tasks.adapters.processes.hardware import peak_resident, version_of
from tasks.adapters.report.page import render_report
from tasks.adapters.report.vector_map import PartDraw
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.errors import RunFailed
from tasks.domain.ports import Collection
from tasks.domain.report.failure_advice import advise
from tasks.domain.report.figures import cost_of, storable
from tasks.domain.report.metadata_alone import MetadataAlone, format_metadata_alone, metadata_alone
from tasks.domain.report.run_report import (
    FailedShard,
    RunReport,
    ShardTime,
    TargetNamed,
    over_quarantine,
    report_headline,
    rows_wrong,
    summary,
)
from tasks.domain.shards.findings import notes_with
from tasks.domain.shards.row_accounting import ShardCounts
from tasks.domain.target.proof import Proof, compared, scope
from tasks.run.artifacts import show_report
from tasks.run.context import Run
from tasks.run.estimate.rate_history import keep_rates
from tasks.run.estimate.run_estimate import finished_estimate
from tasks.run.plan import Plan
from tasks.run.progress import Journal
from tasks.run.promotion.precision_quality import precision_quality
from tasks.run.promotion.promotion_gate import GateQuery
from tasks.run.promotion.report_samples import ReportSamples, show_rows
from tasks.run.promotion.search_code import search_code
from tasks.run.seals.effective_seals import owned_seals
from tasks.run.seals.seal_totals import SealTotals, total

FLOAT32 = "comparison with float32"  # as a section of the report
REPORTED_LIBRARIES = ("kitestring", "torch", "sentence-transformers", "open_clip_torch", "pymilvus", "pyarrow", "prefect")


def figures_of(plan: Plan, totals: SealTotals, *, failed: int) -> dict[str, Any]:
    """Return those figures of a report that come from the store alone."""
    job = plan.job
    return {
        "corpus": job.corpus,
        "encoder": plan.record.identity,
        "facts": plan.record.facts,
        "target": TargetNamed(uri=job.target.address, collection=plan.spec.name, alias=plan.spec.alias),
        "rows": totals.rows,
        "shards": ShardCounts(planned=plan.spool.shards, sealed=totals.sealed, loaded=totals.loaded, failed=failed),
        "quarantine": dict(totals.quarantine),
        "set_aside": tuple(totals.samples),
        "slowest": tuple(ShardTime(name=n, rows=r, seconds=s) for s, n, r in sorted(totals.slowest, reverse=True)),
        "truncated": totals.stats.truncated,
        "tokens_cut": totals.stats.tokens_cut,
        "lengths": totals.stats.lengths,
        "backend": totals.stats.backend,
        "chunks": totals.chunks,
        "settings": job.model_dump(mode="json"),
        "code": search_code(plan.inspected, plan.spec) if totals.loaded else "",
        "versions": {name: version_of(name) or "not installed" for name in REPORTED_LIBRARIES},
    }


@task(name="report", cache_policy=NO_CACHE)
def report_run(run: Run, plan: Plan, collection: Collection, proof: Proof, asked: Sequence[GateQuery] = ()) -> dict[str, object]:
    """Write report.json and report.html. `asked`: questions of the gate to show with their hits.

    Returns:
        The figures that `run --json` prints.

    Raises:
        RunFailed: rows are missing, too many are quarantined, or the collection is not proved.
        Damaged: a part with example rows does not match its seal.
    """
    drawn = PartDraw()
    totals = total(
        map(drawn.take, owned_seals(plan)),
        encoded_now=run.journal.sealed,
        cached_now=run.journal.cached,
        loaded=plan.checkpoint.loaded_ids(plan.target),
    )
    mended = tuple(f"/shards/{shard}/" for shard in run.journal.damaged)  # encoded again only once: examples are only for display
    shown = show_rows(plan, collection, drawn, asked, lambda damage: not any(folder in damage.key for folder in mended))
    if proof.proved:  # what is compared is in the collection as it is sealed
        shown.precision = shown.attempt(FLOAT32, lambda: precision_quality(run, plan, collection))
    report = _with_verdict(_report(run, plan, proof, totals, shown), run.job.failures.max_quarantined)
    plan.checkpoint.write_report(run.id, "report.json", report.model_dump_json(indent=1).encode())
    page = shown.attempt("rows", lambda: render_report(report, shown.pictures)) or render_report(_without_rows(report))
    plan.checkpoint.write_report(run.id, "report.html", page.encode())
    if not report.failures:
        keep_rates(run, seconds=report.wall_seconds)
    if report.over_quarantine:
        run.journal.emit(
            "quarantine.exceeded", {"quarantined": report.rows.quarantined, "rows": report.rows.source, "reasons": dict(report.quarantine)}
        )
    show_report(report, advise(report) if report.failed else None)
    if report.failed:
        raise RunFailed(report.failed, summary(report))
    run.journal.emit("run.verified", {"rows": report.rows.model_dump(), "shards": report.shards.model_dump(), "report": report.page})
    return summary(report)


def _with_verdict(report: RunReport, max_quarantined: float) -> RunReport:
    """Add to the report why the run failed and what to do about it, if it failed."""
    over = over_quarantine(report.rows, max_quarantined)
    wrong = what_is_wrong(report, max_quarantined)
    if not wrong:
        return report
    failed = report.model_copy(update={"over_quarantine": over})
    return failed.model_copy(update={"failed": storable(wrong), "cure": advise(failed).cure})


def stage_seconds(journal: Journal, encoding: EncodingProgress) -> dict[str, float]:
    """Return seconds by stage. The time of `encode` excludes the wait for the encoder to start, which is a stage of its own."""
    busy = max([encoding.seconds, *(work.encode_seconds for work in encoding.work)])
    return {**journal.stages, **({"encode": busy} if busy else {}), "start-up": sum(encoding.startup.values())}


def _without_rows(report: RunReport) -> RunReport:
    """Remove the texts of rows, except quarantined ones: if a page cannot be rendered, content from outside is the cause."""
    return report.model_copy(update={"projection": None, "examples": ()})


def what_is_wrong(report: RunReport, max_quarantined: float) -> str | None:
    """Return why a run that finished has failed, in one line; None if it has not."""
    rows = report.rows
    if report.failures:
        return f"{len(report.failures)} of {report.shards.planned} shards failed; the first: {report.failures[0].name}: {report.failures[0].error}"
    if wrong := rows_wrong(rows, report.quarantine, max_quarantined):
        return wrong
    if not report.verified:
        return f"the collection is not verified: {'; '.join(report.reasons[:3])}"
    return "; ".join(report.refusals) or (None if report.complete else report_headline(report))


def _report(run: Run, plan: Plan, proof: Proof, totals: SealTotals, shown: ReportSamples) -> RunReport:
    journal, encoding = run.journal, run.engine.progress()
    started, finished = run.started_at, dt.datetime.now(dt.UTC)
    figures = figures_of(plan, totals, failed=len(journal.failed))
    figures["rows"] = totals.rows.model_copy(update={"removed": sum(journal.removed.values())})
    sent_alone = metadata_alone(sum(journal.without_vectors.values()), dim=plan.spec.dim, vectors=plan.spec.vector_type)
    return RunReport(
        **figures,
        run=run.id,
        verified=proof.proved,
        reasons=compared(proof) if proof.proved else proof.reasons,
        proved=scope(proof) if proof.proved else "",
        exact=proof.exact,
        started=started,
        finished=finished,
        seconds=stage_seconds(journal, encoding),
        startup=encoding.startup,
        progress=tuple(journal.samples),
        failures=tuple(
            FailedShard(name=name, error=error, row=journal.failed_rows.get(shard)) for shard, (name, error) in journal.failed.items()
        ),
        damaged=tuple(FailedShard(name=name, error=error) for name, error in journal.damaged.values()),
        notes=notes_with([*journal.notes, *_more_notes(run, sent_alone, shown)], totals.found.all()),
        metadata_alone=sent_alone,
        unread=plan.spool.unread,
        refusals=tuple(journal.refusals),
        precision_quality=shown.precision,
        adopted=journal.adopted,
        gate=journal.gate,
        texts_cut=journal.texts_cut,
        tokens=encoding.tokens,
        ranks=encoding.work,
        hosts=encoding.hosts,
        devices=run.devices.work(encoding, plan.record.facts.device) if plan.record.facts else (),
        peak_memory={"flow": peak_resident(), **encoding.memory},
        cost=cost_of(
            rows=totals.rows.embedded,
            tokens=encoding.tokens,
            seconds=max((finished - started).total_seconds(), 0.0),
            price_per_hour=run.job.report.price_per_hour,
        ),
        estimate=finished_estimate(run),
        before=shown.attempt("comparison", lambda: report_before(plan.checkpoint, run.id)),
        projection=shown.projection,
        examples=shown.examples,
        left_out=shown.left_out,
        page=plan.checkpoint.url_of_report(run.id, "report.html"),
    )


def _more_notes(run: Run, sent_alone: MetadataAlone | None, shown: ReportSamples) -> Iterator[str]:
    if sent_alone:
        yield format_metadata_alone(sent_alone)
    if quality := shown.precision:
        earlier = "" if quality.run == run.id else f" (measured on {quality.at[:10]})"
        yield f"gate, beside float32: {quality.line}{earlier}"
    if FLOAT32 in shown.left_out:
        yield f"the gate's questions were not compared with float32: {shown.left_out[FLOAT32]}"
