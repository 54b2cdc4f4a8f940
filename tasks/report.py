"""Report: what became of every row, where the time went, and whether the collection is proved."""

from __future__ import annotations

import datetime as dt
import heapq
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.hardware import peak_resident
from tasks.adapters.report_page import render_report
from tasks.adapters.reports import report_before
from tasks.adapters.vector_sample import PartDraw
from tasks.artifacts import show_report
from tasks.domain.accounts import RowFates, ShardFates, fates_of
from tasks.domain.advice import advise
from tasks.domain.errors import RunFailed
from tasks.domain.figures import cost_of
from tasks.domain.ports import Collection
from tasks.domain.proof import Proof, compared
from tasks.domain.report import (
    QUARANTINE_SAMPLES,
    FailedShard,
    RunReport,
    SetAside,
    ShardTime,
    TargetNamed,
    headline,
    summary,
)
from tasks.domain.seal import Cover, EncodeStats, Seal
from tasks.estimate import foreseen
from tasks.examples import Shown, show_rows
from tasks.gate import Asked
from tasks.plan import Plan
from tasks.rates import keep_rates
from tasks.run import Run
from tasks.seals import owned_seals

SLOWEST = 10
LIBRARIES = ("kitestring", "torch", "sentence-transformers", "open_clip_torch", "pymilvus", "pyarrow", "prefect")


@dataclass(slots=True)
class Totals:
    """A fold over seals; memory does not grow with their number."""

    rows: RowFates = field(default_factory=RowFates)
    sealed: int = 0
    loaded: int = 0
    stats: EncodeStats = field(default_factory=EncodeStats)
    quarantine: Counter[str] = field(default_factory=Counter)
    samples: list[SetAside] = field(default_factory=list)
    cover: Cover = field(default_factory=Cover)
    slowest: list[tuple[float, str, int]] = field(default_factory=list)

    def add(self, seal: Seal, *, encoded_now: int, loaded: bool) -> None:
        """Take in one seal, of which this run encoded so many rows."""
        self.rows += fates_of(seal, encoded_now=encoded_now, loaded=loaded)
        self.sealed += 1
        self.cover.add(seal)
        self.loaded += loaded
        self.stats += seal.stats
        for row in seal.quarantined:
            self.quarantine[row.reason.partition(":")[0]] += 1
            if len(self.samples) < QUARANTINE_SAMPLES:
                self.samples.append(SetAside(shard=seal.name, row=row.row, id=row.id, reason=row.reason))
        if encoded_now:
            heapq.heappush(self.slowest, (seal.stats.encode_seconds, seal.name, seal.embedded))
            if len(self.slowest) > SLOWEST:
                heapq.heappop(self.slowest)


def total(seals: Iterable[Seal], *, encoded_now: dict[str, int], loaded: Container[str]) -> Totals:
    """Fold the seals of a plan."""
    totals = Totals()
    for seal in seals:
        totals.add(seal, encoded_now=encoded_now.get(seal.shard, 0), loaded=seal.shard in loaded)
    return totals


def count_seals(plan: Plan, *, encoded_now: dict[str, int]) -> Totals:
    """Fold every seal of a plan."""
    return total(owned_seals(plan), encoded_now=encoded_now, loaded=plan.checkpoint.loaded_ids(plan.target))


def figures_of(plan: Plan, totals: Totals, *, failed: int) -> dict[str, Any]:
    """A report's figures as far as the store alone can tell them."""
    job = plan.job
    return {
        "corpus": job.corpus,
        "encoder": plan.record.identity,
        "facts": plan.record.facts,
        "target": TargetNamed(uri=job.target.uri, collection=plan.spec.name, alias=plan.spec.alias),
        "rows": totals.rows,
        "shards": ShardFates(planned=plan.spool.shards, sealed=totals.sealed, loaded=totals.loaded, failed=failed),
        "quarantine": dict(totals.quarantine),
        "set_aside": tuple(totals.samples),
        "slowest": tuple(ShardTime(name=n, rows=r, seconds=s) for s, n, r in sorted(totals.slowest, reverse=True)),
        "truncated": totals.stats.truncated,
        "tokens_cut": totals.stats.tokens_cut,
        "lengths": totals.stats.lengths,
        "backend": totals.stats.backend,
        "settings": job.model_dump(mode="json"),
        "versions": {name: version(name) for name in LIBRARIES},
    }


@task(name="report", cache_policy=NO_CACHE)
def report_run(run: Run, plan: Plan, collection: Collection, proof: Proof, asked: Sequence[Asked] = ()) -> dict[str, object]:
    """Write report.json and report.html. `asked`: questions of the gate, to be shown with their hits.

    Returns:
        The figures that `run --json` prints.

    Raises:
        RunFailed: something is missing, too much was set aside, or the collection is not proved.
        Damaged: a part of which rows are to be shown is not what was sealed.
    """
    drawn = PartDraw()
    totals = total(map(drawn.take, owned_seals(plan)), encoded_now=run.journal.sealed, loaded=plan.checkpoint.loaded_ids(plan.target))
    mended = tuple(f"/shards/{shard}/" for shard in run.journal.damaged)  # once is enough for what is only shown
    shown = show_rows(plan, collection, drawn, asked, lambda damage: not any(folder in damage.key for folder in mended))
    report = _report(run, plan, proof, totals, shown)
    plan.checkpoint.write_report(run.id, "report.json", report.model_dump_json(indent=1).encode())
    page = shown.attempt("rows", lambda: render_report(report, shown.pictures)) or render_report(_without_rows(report))
    plan.checkpoint.write_report(run.id, "report.html", page.encode())
    if not report.failures:
        keep_rates(run, seconds=report.wall_seconds)
    most = run.job.failures.max_quarantined
    wrong = what_is_wrong(report, most)
    if over := report.rows.quarantined > most * report.rows.source:
        run.journal.tell(
            "quarantine.exceeded", {"quarantined": report.rows.quarantined, "rows": report.rows.source, "reasons": dict(report.quarantine)}
        )
    show_report(report, advise(report, over_quarantine=over) if wrong else None)
    if wrong:
        raise RunFailed(wrong, summary(report))
    run.journal.tell("run.verified", {"rows": report.rows.model_dump(), "shards": report.shards.model_dump(), "report": report.page})
    return summary(report)


def _without_rows(report: RunReport) -> RunReport:
    """What holds no text of a row beyond those set aside: if anything cannot be drawn, it is what came from outside."""
    return report.model_copy(update={"projection": None, "examples": ()})


def what_is_wrong(report: RunReport, max_quarantined: float) -> str | None:
    """Why a run that went to its end still failed, in one line; None where it did not."""
    rows = report.rows
    if report.failures:
        return f"{len(report.failures)} of {report.shards.planned} shards failed; the first: {report.failures[0].name}: {report.failures[0].error}"
    accounted = rows.embedded + rows.reused + rows.duplicates + rows.quarantined
    if accounted != rows.source:
        return f"{rows.source} source rows, but {accounted} accounted for"
    if rows.quarantined > max_quarantined * rows.source:
        kinds = ", ".join(f"{reason} ({count})" for reason, count in sorted(report.quarantine.items(), key=lambda kind: -kind[1]))
        return f"{rows.quarantined} of {rows.source} rows were set aside, more than failures.max_quarantined allows ({max_quarantined:g}): {kinds}"
    if not report.verified:
        return f"the collection is not proved: {'; '.join(report.reasons[:3])}"
    return "; ".join(report.refusals) or (None if report.complete else headline(report))


def _report(run: Run, plan: Plan, proof: Proof, totals: Totals, shown: Shown) -> RunReport:
    journal, pace = run.journal, run.journal.pace
    started, finished = dt.datetime.fromisoformat(run.started_at), dt.datetime.now(dt.UTC)
    figures = figures_of(plan, totals, failed=len(journal.failed))
    return RunReport(
        **figures,
        run=run.id,
        verified=proof.proved,
        reasons=compared(proof) if proof.proved else proof.reasons,
        started=started,
        finished=finished,
        seconds={**journal.stages, "start-up": sum(run.ranks.startup.values())},
        startup=run.ranks.startup,
        progress=tuple(journal.samples),
        failures=tuple(FailedShard(name=name, error=error) for name, error in journal.failed.values()),
        damaged=tuple(FailedShard(name=name, error=error) for name, error in journal.damaged.values()),
        notes=tuple(journal.notes),
        refusals=tuple(journal.refusals),
        adopted=journal.adopted,
        texts_cut=journal.texts_cut,
        tokens=pace.tokens,
        ranks=pace.work,
        peak_memory={"flow": peak_resident(), **pace.memory},
        cost=cost_of(
            rows=totals.rows.embedded,
            tokens=pace.tokens,
            seconds=max((finished - started).total_seconds(), 0.0),
            price_per_hour=run.job.report.price_per_hour,
        ),
        estimate=foreseen(run),
        before=shown.attempt("comparison", lambda: report_before(plan.checkpoint, run.id)),
        projection=shown.projection,
        examples=shown.examples,
        left_out=shown.left_out,
        page=plan.checkpoint.url_of_report(run.id, "report.html"),
    )
