"""Prefect artifacts of a run: progress, shards by state, and at the end the report."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException

from tasks.adapters.report.page import escape, markdown_report
from tasks.domain.encoding.encoding_progress import rank_name
from tasks.domain.estimate.estimate import Estimate
from tasks.domain.estimate.formatting import format_estimate
from tasks.domain.progress.snapshot import RateMeter, Snapshot
from tasks.domain.report.failure_advice import Advice, advise_on
from tasks.domain.report.hosts import host_line
from tasks.domain.report.run_report import RunReport
from tasks.domain.target.proof import Proof, compared

EVERY_SECONDS, LATER_SECONDS = 4.0, 30.0  # between two updates, early and late in a run: the server keeps an event of each for a week
CAUSE_CHARACTERS = 600  # characters of a cause
MOST_NAMED = 64  # hosts, and ranks, in the table and in each round of log lines; report.json has all of them
CELL_CHARACTERS = 200  # characters of a table cell
FIRST_LINE, RARELY = 5.0, 300.0  # seconds until the first log lines of ranks, and the longest interval between later ones
log = logging.getLogger("kitestring.run")
log.setLevel(logging.INFO)  # Prefect attaches a handler to extra loggers and sets no level


def artifact_key(what: str, corpus: str) -> str:
    """An artifact key that Prefect accepts: lower-case letters, digits and dashes."""
    return f"{what}-{re.sub(r'[^a-z0-9]+', '-', corpus.lower()).strip('-')}"


class Artifacts:
    """Updates the progress artifact and the table of shards of a run in place. Outside a flow run it only logs waits."""

    def __init__(self, corpus: str) -> None:
        self._corpus = corpus
        self._progress: UUID | None = None
        self._table: UUID | None = None
        self._rows: list[dict[str, str]] = []
        self._updated = -EVERY_SECONDS
        self._waits_for, self._rate = "", RateMeter()

    def __call__(self, now: Snapshot) -> None:
        if now.waits_for != self._waits_for:
            self._waits_for, self._updated = now.waits_for, -EVERY_SECONDS
            log.info("waiting for %s", now.waits_for) if now.waits_for else log.info("no longer waiting")
        pause = min(LATER_SECONDS, max(EVERY_SECONDS, now.seconds / 100))
        if FlowRunContext.get() is None or (time.monotonic() - self._updated < pause and not now.ended):
            return
        self._updated = time.monotonic()
        _try(lambda: self._show_progress(now))
        rows = shard_table(now)
        if rows != self._rows:
            self._rows = rows
            _try(lambda: self._show_shards(rows))

    def _show_progress(self, now: Snapshot) -> None:
        percent = 100.0 * now.share
        text = progress_text(now, self._rate.of(now))
        if self._progress is None:
            self._progress = cast("UUID", create_progress_artifact(percent, key=artifact_key("progress", self._corpus), description=text))
        else:
            update_progress_artifact(self._progress, percent, description=text)

    def _show_shards(self, rows: list[dict[str, str]]) -> None:
        if self._table is None:
            text = f"Shards of {self._corpus} by state; named are those in progress, the first failures and the slowest"
            self._table = cast("UUID", create_table_artifact(rows, key=artifact_key("shards", self._corpus), description=text))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows)))


def shard_table(now: Snapshot) -> list[dict[str, str]]:
    """Count shards by state; name only those in progress, failed or slowest, so that the table stays short for any number of shards."""
    return [dict(zip(("state", "shards", "shard", "what"), line, strict=True)) for line in _table_lines(now)]


def _table_lines(now: Snapshot) -> Iterator[tuple[str, str, str, str]]:
    yield "planned", f"{now.shards:,}", "", ""
    yield "complete before this run", f"{now.shards_before:,}", "", ""
    yield "sealed by this run", f"{now.shards_sealed:,}", "", ""
    yield "loaded by this run", f"{now.shards_loaded:,}", "", ""
    yield "failed", f"{now.shards_failed:,}", "", ""
    for host in now.encoding.hosts[:MOST_NAMED]:
        yield "host", "", "", host_line(host)
    for piece in now.encoding.under_way[:MOST_NAMED]:
        yield (
            "in progress",
            "",
            piece.shard,
            f"{rank_name(piece.rank, piece.host)}: {piece.done:,} of rows {piece.first:,} to {piece.stop - 1:,}",
        )
    for name, error in now.failed:
        yield "failed", "", name, " ".join(error.split())[:CELL_CHARACTERS]
    if now.shards_failed > len(now.failed) > 0:
        yield "failed", "", f"and {now.shards_failed - len(now.failed):,} more", "report.json names them all"
    for seconds, name, count in now.slowest:
        yield "slowest", "", name, f"{seconds:,.1f} s for {count:,} rows"


def progress_text(now: Snapshot, rate: float) -> str:
    """One sentence on the state of a run: phase, rows, speed, time left."""
    left = f", about {(now.goal - now.done) / rate:,.0f} s left" if rate and now.goal and now.goal > now.done else ""
    speed = f", {rate:,.0f} rows/s" if rate else ""
    waiting = f"waiting for {now.waits_for}. " if now.waits_for else ""
    return f"{waiting}{now.phase}: {now.of_rows} rows encoded{speed}{left}; {now.loaded:,} loaded"


class RankLines:
    """Logs hosts of a cluster and ranks: positions at 5, 10, 20, 40 s and so on, then every 5 minutes; each rank's first part and total."""

    def __init__(self) -> None:
        self._next = FIRST_LINE
        self._known: set[str] = set()

    def __call__(self, now: Snapshot) -> None:
        for work in now.encoding.work:
            name = rank_name(work.rank, work.host)
            if now.ended or name not in self._known:
                self._known.add(name)
                shard = now.encoding.newest.get(name, "")
                log.info("%srank=%d parts=%d rows=%d shard=%r", _host_prefix(work.host), work.rank, work.parts, work.rows, shard)
        if now.ended:
            self._log_hosts(now)
        if now.seconds < self._next or now.ended or not now.encoding.under_way:
            return
        self._next = now.seconds + min(max(now.seconds, FIRST_LINE), RARELY)
        self._log_hosts(now)
        for piece in now.encoding.under_way[:MOST_NAMED]:
            rows = (piece.first, piece.stop - 1, piece.done)
            log.info("%srank=%d shard=%r rows=%d-%d done=%d", _host_prefix(piece.host), piece.rank, piece.shard, *rows)

    def _log_hosts(self, now: Snapshot) -> None:
        for host in now.encoding.hosts[:MOST_NAMED]:
            log.info("host %s", host_line(host))


def _host_prefix(host: str) -> str:
    return f"host={host} " if host else ""


def show_report(report: RunReport, advice: Advice | None = None) -> None:
    """Show the report's figures as a Markdown artifact of the flow run; for a failed run the advice comes first."""
    text = markdown_report(report) if advice is None else f"{_advice(advice)}\n\n{markdown_report(report)}"
    _show_markdown(artifact_key("report", report.corpus), text, "Outcome of every row")


def show_failure(corpus: str, error: Exception) -> None:
    """Show why a run ended before it could report."""
    _show_markdown(artifact_key("report", corpus), f"# The run failed\n\n{_advice(advise_on(error))}", "Why the run failed")


def show_stop(corpus: str, now: Snapshot) -> None:
    """Show what a run that was cancelled or stopped by a signal has saved, and how to continue."""
    done = f"{now.encoded:,} rows were encoded and {now.loaded:,} loaded; {now.shards_sealed:,} of {now.shards:,} shards were sealed."
    kept = "Everything that ranks had saved is kept: run the job again to continue from there. No process is left running."
    _show_markdown(artifact_key("report", corpus), f"# The run was stopped\n\n{done} {kept}", "How far a stopped run was")


def show_proof(corpus: str, proof: Proof) -> None:
    """Show the result of an audit."""
    lines = [f"# {'Verified' if proof.proved else 'Not verified'}: {proof.rows:,} rows in {len(proof.counts):,} shards", ""]
    lines += [f"- {escape(reason)}" for reason in proof.reasons[:20]]
    lines += ["", *(f"- compared: {escape(line, CAUSE_CHARACTERS)}" for line in compared(proof))]
    _show_markdown(artifact_key("audit", corpus), "\n".join(lines), "Verification of the collection")


def show_estimate(corpus: str, estimate: Estimate) -> None:
    """Show the estimate that a dry run made."""
    rows = "\n".join(f"| {name} | {escape(value, CAUSE_CHARACTERS)} |" for name, value in format_estimate(estimate))
    text = f"# What a run of {escape(corpus)} would take\n\n| figure | expected (lowest to highest) |\n|---|---|\n{rows}"
    _show_markdown(artifact_key("estimate", corpus), text, "Nothing was sealed or loaded")


def _advice(advice: Advice) -> str:
    places = {"cause": advice.cause, "shard": advice.shard, "row": advice.row}
    lines = [f"| {name} | {escape(place, CAUSE_CHARACTERS)} |" for name, place in places.items() if place]
    return "\n".join(["| what went wrong | |", "|---|---|", *lines, f"| what to do | {advice.cure} |"])


def _show_markdown(key: str, text: str, description: str) -> None:
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        _try(lambda: create_markdown_artifact(text, key=key, description=description))


def _try(show: Callable[[], object]) -> None:
    """Call `show` and log its failure: artifacts are optional, so an unresponsive server must not stop the run."""
    try:
        show()
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("an artifact could not be updated: %s", error)
