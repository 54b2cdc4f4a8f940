"""What the Prefect UI shows of a run: how far it is, shards by state, and in the end the report."""

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

EVERY_SECONDS, LATER_SECONDS = 4.0, 30.0  # between two looks: each change is an event that the server keeps for a week
CAUSE_CHARACTERS = 600  # characters of a cause
MOST_NAMED = 64  # hosts, and ranks, in the table and in a round of the log; report.json has all of them
CELL_CHARACTERS = 200  # of one in a table
FIRST_LINE, RARELY = 5.0, 300.0  # seconds until the ranks are logged first, and the longest interval later
log = logging.getLogger("kitestring.run")
log.setLevel(logging.INFO)  # Prefect gives the loggers that it takes along a handler, and no level


def artifact_key(what: str, corpus: str) -> str:
    """A key that Prefect takes: lower-case letters, digits and dashes."""
    return f"{what}-{re.sub(r'[^a-z0-9]+', '-', corpus.lower()).strip('-')}"


class Artifacts:
    """A run's progress artifact and its table of shards, updated in place. Outside of a flow run it does nothing."""

    def __init__(self, corpus: str) -> None:
        self._corpus = corpus
        self._progress: UUID | None = None
        self._table: UUID | None = None
        self._rows: list[dict[str, str]] = []
        self._told = -EVERY_SECONDS
        self._waited, self._rate = "", RateMeter()

    def __call__(self, now: Snapshot) -> None:
        if now.waits_for != self._waited:
            self._waited, self._told = now.waits_for, -EVERY_SECONDS
            log.info("waiting for %s", now.waits_for) if now.waits_for else log.info("no longer waiting")
        pause = min(LATER_SECONDS, max(EVERY_SECONDS, now.seconds / 100))
        if FlowRunContext.get() is None or (time.monotonic() - self._told < pause and not now.ended):
            return
        self._told = time.monotonic()
        _try(lambda: self._show_progress(now))
        rows = shard_table(now)
        if rows != self._rows:
            self._rows = rows
            _try(lambda: self._show_shards(rows))

    def _show_progress(self, now: Snapshot) -> None:
        share = 100.0 * now.share
        words = progress_text(now, self._rate.of(now))
        if self._progress is None:
            self._progress = cast("UUID", create_progress_artifact(share, key=artifact_key("progress", self._corpus), description=words))
        else:
            update_progress_artifact(self._progress, share, description=words)

    def _show_shards(self, rows: list[dict[str, str]]) -> None:
        if self._table is None:
            words = f"Shards of {self._corpus} by state; by name those in work, the first that failed, and the slowest"
            self._table = cast("UUID", create_table_artifact(rows, key=artifact_key("shards", self._corpus), description=words))
        else:
            with get_client(sync_client=True) as client:
                client.update_artifact(self._table, ArtifactUpdate(data=json.dumps(rows)))


def shard_table(now: Snapshot) -> list[dict[str, str]]:
    """Shards counted by state, and by name only those that one would look for: the table stays short, however many there are."""
    return [dict(zip(("state", "shards", "shard", "what"), line, strict=True)) for line in _table_lines(now)]


def _table_lines(now: Snapshot) -> Iterator[tuple[str, str, str, str]]:
    yield "planned", f"{now.shards:,}", "", ""
    yield "complete before this run", f"{now.shards_before:,}", "", ""
    yield "sealed by this run", f"{now.shards_sealed:,}", "", ""
    yield "loaded by this run", f"{now.shards_loaded:,}", "", ""
    yield "failed", f"{now.shards_failed:,}", "", ""
    for host in now.encoding.hosts[:MOST_NAMED]:
        yield "host", "", "", host_line(host)
    for at in now.encoding.under_way[:MOST_NAMED]:
        yield "in work", "", at.shard, f"{rank_name(at.rank, at.host)}: {at.done:,} of rows {at.first:,} to {at.stop - 1:,}"
    for name, error in now.failed:
        yield "failed", "", name, " ".join(error.split())[:CELL_CHARACTERS]
    if now.shards_failed > len(now.failed) > 0:
        yield "failed", "", f"and {now.shards_failed - len(now.failed):,} more", "report.json names them all"
    for seconds, name, count in now.slowest:
        yield "slowest", "", name, f"{seconds:,.1f} s for {count:,} rows"


def progress_text(now: Snapshot, rate: float) -> str:
    """A run at one moment, in a sentence."""
    left = f", about {(now.goal - now.done) / rate:,.0f} s left" if rate and now.goal and now.goal > now.done else ""
    speed = f", {rate:,.0f} rows/s" if rate else ""
    waiting = f"waiting for {now.waits_for}. " if now.waits_for else ""
    return f"{waiting}{now.phase}: {now.of_rows} rows encoded{speed}{left}; {now.loaded:,} loaded"


class RankLines:
    """Log lines of the hosts of a cluster and of all ranks: where each is at 5, 10, 20, 40 s and so on, then every five minutes; its first part, and its sum."""

    def __init__(self) -> None:
        self._next = FIRST_LINE
        self._known: set[str] = set()

    def __call__(self, now: Snapshot) -> None:
        for work in now.encoding.work:
            name = rank_name(work.rank, work.host)
            if now.ended or name not in self._known:
                self._known.add(name)
                shard = now.encoding.newest.get(name, "")
                log.info("%srank=%d parts=%d rows=%d shard=%r", _of(work.host), work.rank, work.parts, work.rows, shard)
        if now.ended:
            self._tell_of_hosts(now)
        if now.seconds < self._next or now.ended or not now.encoding.under_way:
            return
        self._next = now.seconds + min(max(now.seconds, FIRST_LINE), RARELY)
        self._tell_of_hosts(now)
        for at in now.encoding.under_way[:MOST_NAMED]:
            log.info("%srank=%d shard=%r rows=%d-%d done=%d", _of(at.host), at.rank, at.shard, at.first, at.stop - 1, at.done)

    def _tell_of_hosts(self, now: Snapshot) -> None:
        for host in now.encoding.hosts[:MOST_NAMED]:
            log.info("host %s", host_line(host))


def _of(host: str) -> str:
    return f"host={host} " if host else ""


def show_report(report: RunReport, advice: Advice | None = None) -> None:
    """The figures as a Markdown artifact of the flow run; for a failed run the advice comes first."""
    text = markdown_report(report) if advice is None else f"{_advice(advice)}\n\n{markdown_report(report)}"
    _show_markdown(artifact_key("report", report.corpus), text, "Outcome of every row")


def show_failure(corpus: str, error: Exception) -> None:
    """A run that ended before it could report."""
    _show_markdown(artifact_key("report", corpus), f"# The run failed\n\n{_advice(advise_on(error))}", "Why the run failed")


def show_stop(corpus: str, now: Snapshot) -> None:
    """A run that was cancelled or told to end: what it has saved, and how to go on."""
    done = f"{now.encoded:,} rows were encoded and {now.loaded:,} loaded; {now.shards_sealed:,} of {now.shards:,} shards were sealed."
    kept = "What ranks had saved is kept: run it again, and it goes on from there. No process is left behind."
    _show_markdown(artifact_key("report", corpus), f"# The run was stopped\n\n{done} {kept}", "How far a stopped run was")


def show_proof(corpus: str, proof: Proof) -> None:
    """What an audit found."""
    lines = [f"# {'Verified' if proof.proved else 'Not verified'}: {proof.rows:,} rows in {len(proof.counts):,} shards", ""]
    lines += [f"- {escape(reason)}" for reason in proof.reasons[:20]]
    lines += ["", *(f"- compared: {escape(line, CAUSE_CHARACTERS)}" for line in compared(proof))]
    _show_markdown(artifact_key("audit", corpus), "\n".join(lines), "Verification of the collection")


def show_estimate(corpus: str, estimate: Estimate) -> None:
    """What a run will take, as a dry run found."""
    rows = "\n".join(f"| {name} | {escape(value, CAUSE_CHARACTERS)} |" for name, value in format_estimate(estimate))
    text = f"# What a run of {escape(corpus)} would take\n\n| figure | expected (lowest to highest) |\n|---|---|\n{rows}"
    _show_markdown(artifact_key("estimate", corpus), text, "Nothing was sealed or loaded")


def _advice(advice: Advice) -> str:
    places = {"cause": advice.cause, "shard": advice.shard, "row": advice.row}
    told = [f"| {name} | {escape(place, CAUSE_CHARACTERS)} |" for name, place in places.items() if place]
    return "\n".join(["| what went wrong | |", "|---|---|", *told, f"| what to do | {advice.cure} |"])


def _show_markdown(key: str, text: str, description: str) -> None:
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        _try(lambda: create_markdown_artifact(text, key=key, description=description))


def _try(show: Callable[[], object]) -> None:
    """A server that does not answer must not stop a run that could do without it."""
    try:
        show()
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("an artifact could not be shown: %s", error)
