"""The record of a server-side import, so that an import with an unknown outcome is never resumed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict


class ProcessMark(Strict):
    """Identifies a process for other processes on its machine."""

    host: str = Field(description="Digest of the machine, its boot and its process table.")
    pid: int
    started: float = Field(description="Start, in seconds since 1970 by the machine's clock, which may be adjusted later.")
    since_boot: float | None = Field(None, description="Start, in seconds since the machine booted; None in older marks.")


class ImportAttempt(Strict):
    """One attempt to fill a collection by import. It fills a collection of its own, which is then renamed to the real name.

    begun      jobs may be running; they write only to `collection`
    imported   `collection` holds every row, counted; next it is renamed and the ledger is written
    """

    format_version: Literal[1] = 1
    run: str
    collection: str = Field(description="The collection that is filled; no alias points to it.")
    rows: int = Field(ge=0)
    cut: dict[str, int] = Field(default_factory=dict, description="Texts cut to fit, by shard; shards without any are omitted.")
    covers: str = Field(description="Digest of the seals whose parts are imported.")
    upserts: tuple[str, ...] = Field((), description="Staged files of rows that cannot be imported; they are upserted after the jobs.")
    process: ProcessMark | None = Field(None, description="The process that works on the attempt and rewrites this record periodically.")
    state: Literal["begun", "imported"] = "begun"
    jobs: tuple[str, ...] = Field((), description="The server's job ids, recorded before any job is polled.")

    @property
    def real_name(self) -> str:
        """The final name of the collection, unless that is very long."""
        return self.collection.rpartition("_import_")[0]


class ImportState(Strict):
    """The state of an import job at the server."""

    state: Literal["running", "done", "failed"]
    percent: int = 0
    reason: str = ""
