"""The state of a run in progress, stored in the checkpoint for other machines."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Literal

from pydantic import Field

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.strict import Strict

UNHEARD_SECONDS = 120.0  # a run silent for so long counts as gone; generous, because clocks of two machines may differ
MOST_SHARED = 64  # hosts, and pieces in progress

LiveState = Literal["running", "completed", "failed", "stopped"]


class LiveRun(Strict):
    """The progress of a run. Rewritten periodically while it runs, and once more at its end."""

    format_version: Literal[1] = 1
    run: str
    flow: str = Field(description="The name of its flow.")
    machine: str = Field(description="The machine of the flow.")
    began: dt.datetime
    at: dt.datetime = Field(description="When this was written, by the clock of that machine.")
    state: LiveState = "running"
    cause: str = Field("", description="Why it failed.")
    snapshot: Snapshot

    def is_silent(self, now: dt.datetime) -> bool:
        """Whether its state is running but it has not been written for UNHEARD_SECONDS."""
        return self.state == "running" and (now - self.at).total_seconds() > UNHEARD_SECONDS


def for_others(now: Snapshot) -> Snapshot:
    """Return the part of a snapshot that is shared with other machines: some kilobytes, whatever the number of hosts and ranks."""
    encoding = now.encoding
    hosts = tuple(host.model_copy(update={"moments": host.moments[-1:]}) for host in encoding.hosts[:MOST_SHARED])
    shared = EncodingProgress(
        rows=encoding.rows,
        tokens=encoding.tokens,
        seconds=encoding.seconds,
        under_way=encoding.under_way[:MOST_SHARED],
        startup=encoding.startup,
        hosts=hosts,
        waits_for=encoding.waits_for,
    )
    return replace(now, encoding=shared)
