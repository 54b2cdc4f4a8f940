"""The record of a server-side import, so that no import is resumed with an unknown outcome."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict


class ProcessMark(Strict):
    """A process, as another one on its machine finds it again."""

    host: str = Field(description="Digest of the machine, its boot and its process table.")
    pid: int
    started: float = Field(description="Seconds since 1970, by the machine's clock, which may be set later.")
    since_boot: float | None = Field(None, description="The same in seconds since the machine started; None in marks of before.")


class ImportAttempt(Strict):
    """One attempt to fill a collection by import. It fills a collection of its own, which then takes the real name.

    begun      jobs may be running: whatever they did is in `collection`, and nowhere else
    imported   `collection` holds every row, counted; it is about to be renamed, and the ledger to be written
    """

    format_version: Literal[1] = 1
    run: str
    collection: str = Field(description="The collection that is filled first; no alias points to it.")
    rows: int = Field(ge=0)
    cut: dict[str, int] = Field(default_factory=dict, description="Texts cut to fit, by shard, where there are any.")
    covers: str = Field(description="Digest of the seals whose parts are imported.")
    upserts: tuple[str, ...] = Field((), description="Staged files of rows that importers refuse: they are upserted after the jobs.")
    process: ProcessMark | None = Field(None, description="Who is at work on it, and rewrites this every so often.")
    state: Literal["begun", "imported"] = "begun"
    jobs: tuple[str, ...] = Field((), description="The server's ids, noted before any of them is asked for.")

    @property
    def real_name(self) -> str:
        """The name that the collection takes in the end, unless that is a very long one."""
        return self.collection.rpartition("_import_")[0]


class ImportState(Strict):
    """What a server says of a job."""

    state: Literal["running", "done", "failed"]
    percent: int = 0
    reason: str = ""
