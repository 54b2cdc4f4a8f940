"""A run that is under way, as its checkpoint tells others of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Literal

from pydantic import Field

from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.progress.snapshot import Snapshot
from tasks.domain.strict import Strict

UNHEARD_SECONDS = 120.0  # after which a run that has written nothing is taken to be gone; clocks of two machines may differ
MOST_TOLD = 64  # hosts, and pieces in work

LiveState = Literal["running", "completed", "failed", "stopped"]


class LiveRun(Strict):
    """How far a run is. Written again and again while it goes, and once more at its end."""

    format_version: Literal[1] = 1
    run: str
    flow: str = Field(description="What it does: the name of its flow.")
    machine: str = Field(description="The machine of the flow.")
    began: dt.datetime
    at: dt.datetime = Field(description="When this was written, by the clock of that machine.")
    state: LiveState = "running"
    cause: str = Field("", description="Why it failed.")
    snapshot: Snapshot

    def is_silent(self, now: dt.datetime) -> bool:
        """Whether it says that it is running and has not been heard of for long."""
        return self.state == "running" and (now - self.at).total_seconds() > UNHEARD_SECONDS


def for_others(now: Snapshot) -> Snapshot:
    """What others draw, some kilobytes whatever the number of hosts and ranks."""
    encoding = now.encoding
    hosts = tuple(host.model_copy(update={"moments": host.moments[-1:]}) for host in encoding.hosts[:MOST_TOLD])
    told = EncodingProgress(
        rows=encoding.rows,
        tokens=encoding.tokens,
        seconds=encoding.seconds,
        under_way=encoding.under_way[:MOST_TOLD],
        startup=encoding.startup,
        hosts=hosts,
        waits_for=encoding.waits_for,
    )
    return replace(now, encoding=told)
