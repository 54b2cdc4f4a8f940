"""The progress of an engine: the input of a run's progress display, log and report."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.report.figures import RankWork
from tasks.domain.report.hosts import HostWork
from tasks.domain.strict import Strict


def rank_name(rank: int, host: str = "") -> str:
    """Return the name of a rank for people. Every host numbers its ranks from 0."""
    return f"{host}, rank {rank}" if host else f"rank {rank}"


class UnderWay(Strict):
    """The piece that a rank encodes: source rows [first, stop) of a shard, `done` of them encoded."""

    rank: int
    host: str = Field("", description="The rank's host; empty: the flow's machine.")
    shard: str = Field(description="Its name for people.")
    first: int
    stop: int
    done: int


class EncodingProgress(Strict):
    """The work of an engine for a run so far. A rank is anything that encodes one piece at a time; ranks are numbered from 0."""

    rows: int = Field(0, description="Encoded rows, including those of unfinished parts.")
    tokens: int = Field(0, description="Tokens of those rows, without padding.")
    seconds: float = Field(0.0, description="From the first batch of any rank to the last part; 0 before the first part.")
    rows_by_rank: tuple[int, ...] = Field((), description="Encoded rows of each rank, rank 0 first.")
    work: tuple[RankWork, ...] = Field((), description="What each rank has stored.")
    newest: dict[str, str] = Field(default_factory=dict, description="By `rank_name`: the name of the shard of the rank's newest part.")
    under_way: tuple[UnderWay, ...] = ()
    memory: dict[str, int] = Field(default_factory=dict, description="Peak bytes of each rank so far.")
    startup: dict[str, float] = Field(default_factory=dict, description="Seconds until the encoder was loaded, by step.")
    hosts: tuple[HostWork, ...] = Field((), description="Of a cluster, in the order of joining; empty: the flow's machine encodes.")
    waits_for: str = Field("", description="What the encoder waits for, for people; empty: nothing.")

    def not_behind(self, before: EncodingProgress) -> EncodingProgress:
        """Return this progress with counts of at least `before`: the counts pause instead of falling when a rank is lost."""
        return self.model_copy(update={"rows": max(self.rows, before.rows), "tokens": max(self.tokens, before.tokens)})
