"""How far an engine is: what a run's progress, its log and its report are made from."""

from __future__ import annotations

from pydantic import Field

from tasks.domain.report.figures import RankWork
from tasks.domain.report.hosts import HostWork
from tasks.domain.strict import Strict


def rank_name(rank: int, host: str = "") -> str:
    """A rank for people: a host's ranks are numbered from 0 on each."""
    return f"{host}, rank {rank}" if host else f"rank {rank}"


class UnderWay(Strict):
    """Where a rank is: in source rows [first, stop) of a shard, of which so many are encoded."""

    rank: int
    host: str = Field("", description="The host that it is on; empty: the flow's machine.")
    shard: str = Field(description="Its name for people.")
    first: int
    stop: int
    done: int


class EncodingProgress(Strict):
    """What an engine has done for a run up to one moment. A rank is whatever encodes one piece at a time, numbered from 0."""

    rows: int = Field(0, description="Encoded, those of unfinished parts included.")
    tokens: int = Field(0, description="Of those rows, padding not counted.")
    seconds: float = Field(0.0, description="From the first batch of any rank to the last part; 0 before there is one.")
    rows_by_rank: tuple[int, ...] = Field((), description="The same rows, rank 0 first.")
    work: tuple[RankWork, ...] = Field((), description="What each rank has put in the store.")
    newest: dict[str, str] = Field(default_factory=dict, description="By `rank_name`: the name of the shard that its newest part is of.")
    under_way: tuple[UnderWay, ...] = ()
    memory: dict[str, int] = Field(default_factory=dict, description="Most bytes of each rank so far.")
    startup: dict[str, float] = Field(default_factory=dict, description="Seconds until the encoder was loaded, by step.")
    hosts: tuple[HostWork, ...] = Field((), description="Of a cluster, in the order in which they came; empty: the flow's machine encodes.")
    waits_for: str = Field("", description="What holds the encoder up, in words; empty: nothing.")

    def not_behind(self, before: EncodingProgress) -> EncodingProgress:
        """As far as `before` at least: rows that a rank had in hand when it was lost are not taken back, but waited for."""
        return self.model_copy(update={"rows": max(self.rows, before.rows), "tokens": max(self.tokens, before.tokens)})
