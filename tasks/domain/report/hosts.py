"""What each host of a cluster did in a run, and when it was there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

HostState = Literal["loading", "at work", "released", "leaving", "lost", "left out"]
THERE: tuple[HostState, ...] = ("at work", "leaving")  # while it can encode


class HostMoment(Strict):
    """From here on a host is in a state."""

    seconds: float = Field(ge=0, description="Since the run began.")
    state: HostState
    why: str = ""


class HostWork(Strict):
    """The work of one host in this run, over all processes of it."""

    host: str
    ranks: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)
    seconds: float = Field(0.0, ge=0, description="In which its encoder was loaded and it could encode.")
    encode_seconds: float = Field(0.0, ge=0, description="Of all its ranks together.")
    taken: int = Field(0, ge=0, description="Groups of shards that it was given.")
    given_back: int = Field(0, ge=0, description="Of those, how many went to other hosts, all or in part.")
    doubled: int = Field(0, ge=0, description="Shards that it sealed and another host had sealed before.")
    left_out: str = Field("", description="Why it was given no more; empty: it was not left out.")
    moments: tuple[HostMoment, ...] = Field((), description="In the order of time.")

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def share_at_work(self) -> float:
        """Of the time in which its ranks could encode, 0 to 1."""
        could = self.seconds * self.ranks
        return min(1.0, self.encode_seconds / could) if could else 0.0
