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
    loaded: int = Field(0, ge=0, description="Rows that it has put into the collection.")
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


class HostsOfRun(Strict):
    """The hosts of a run at one moment: replaced while it goes, and once more at its end."""

    format_version: Literal[1] = 1
    run: str
    at: str = Field(description="When it was written.")
    ended: bool = Field(description="Whether the run had come to its end, however; a run that was killed writes no more.")
    hosts: tuple[HostWork, ...]


def host_line(host: HostWork) -> str:
    """What a host has done, for people."""
    last = host.moments[-1] if host.moments else None
    state = f"left out ({host.left_out})" if host.left_out else last.state if last else "joining"
    why = f" ({last.why})" if last and last.why and not host.left_out else ""
    done = f"{host.rows:,} rows, {host.rows_per_second:,.0f} rows/s, {host.tokens_per_second:,.0f} tokens/s"
    groups = f"{host.taken:,} groups taken, {host.given_back:,} given back, {host.doubled:,} shards doubled"
    loaded = f", {host.loaded:,} rows loaded" if host.loaded else ""
    return f"{host.host}: {state}{why}, {done}, {host.share_at_work:.0%} of the time at work, {groups}{loaded}"
