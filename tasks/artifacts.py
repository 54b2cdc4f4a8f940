"""What the Prefect UI shows of a run: how far it is, shards by state, and in the end the report."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

from tasks.adapters.report_page import markdown_report
from tasks.domain.report import RunReport
from tasks.journal import Snapshot

EVERY_SECONDS = 4.0
log = logging.getLogger("kitestring.artifacts")


def artifact_key(what: str, corpus: str) -> str:
    """A key that Prefect takes: lower-case letters, digits and dashes."""
    return f"{what}-{re.sub(r'[^a-z0-9]+', '-', corpus.lower()).strip('-')}"


class Artifacts:
    """A run's progress artifact and its table of shards, updated in place. Outside of a flow run it does nothing."""

    def __init__(self, corpus: str) -> None:
        self._corpus = corpus
        self._progress: UUID | None = None
        self._shards: tuple[int, ...] = ()
        self._told = -EVERY_SECONDS

    def __call__(self, now: Snapshot) -> None:
        if FlowRunContext.get() is None or (time.monotonic() - self._told < EVERY_SECONDS and not now.ended):
            return
        self._told = time.monotonic()
        _try(lambda: self._show_progress(now))
        counts = (now.shards, now.shards_sealed, now.shards_loaded, now.shards_failed)
        if counts != self._shards:
            self._shards = counts
            _try(lambda: self._show_shards(now))

    def _show_progress(self, now: Snapshot) -> None:
        share = 100.0 * min(1.0, now.done / now.total) if now.total else 0.0
        words = describe(now)
        if self._progress is None:
            self._progress = cast("UUID", create_progress_artifact(share, key=artifact_key("progress", self._corpus), description=words))
        else:
            update_progress_artifact(self._progress, share, description=words)

    def _show_shards(self, now: Snapshot) -> None:
        states = {
            "planned": now.shards,
            "sealed by this run": now.shards_sealed,
            "loaded by this run": now.shards_loaded,
            "failed": now.shards_failed,
        }
        rows = [{"state": state, "shards": count} for state, count in states.items()]
        create_table_artifact(rows, key=artifact_key("shards", self._corpus), description=f"Shards of {self._corpus} by state")


def describe(now: Snapshot) -> str:
    """A run at one moment, in a sentence."""
    of = "" if now.total is None else f" of {now.total:,}"
    rate = now.encoded / now.seconds if now.seconds else 0.0
    left = f", about {(now.total - now.done) / rate:,.0f} s left" if rate and now.total and now.total > now.done else ""
    return f"{now.stage}: {now.done:,}{of} rows encoded, {rate:,.0f} rows/s since the start{left}; {now.loaded:,} loaded"


def show_report(report: RunReport) -> None:
    """The figures as a Markdown artifact of the flow run."""
    if FlowRunContext.get() is not None:
        key = artifact_key("report", report.corpus)
        _try(lambda: create_markdown_artifact(markdown_report(report), key=key, description="What became of every row"))


def _try(show: Callable[[], object]) -> None:
    """A server that does not answer must not stop a run that could do without it."""
    try:
        show()
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("an artifact could not be shown: %s", error)
