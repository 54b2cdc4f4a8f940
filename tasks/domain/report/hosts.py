"""The work and the presence of each host of a cluster in a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.domain.strict import Strict

HostState = Literal["loading", "at work", "released", "leaving", "lost", "left out"]
PRESENT_STATES: tuple[HostState, ...] = ("at work", "leaving")  # in which a host can encode


class HostMoment(Strict):
    """A change of a host's state."""

    seconds: float = Field(ge=0, description="Since the run began.")
    state: HostState
    why: str = ""


class HostWork(Strict):
    """The work of one host in this run, over all its processes."""

    host: str
    ranks: int = Field(0, ge=0)
    rows: int = Field(0, ge=0)
    tokens: int = Field(0, ge=0)
    loaded: int = Field(0, ge=0, description="Rows that it loaded into the collection.")
    seconds: float = Field(0.0, ge=0, description="Time in which its encoder was loaded and it could encode.")
    encode_seconds: float = Field(0.0, ge=0, description="Sum over its ranks.")
    taken: int = Field(0, ge=0, description="Groups of shards assigned to it.")
    given_back: int = Field(0, ge=0, description="Those of them that it returned, in whole or in part, for other hosts.")
    doubled: int = Field(0, ge=0, description="Shards that it sealed after another host had sealed them.")
    left_out: str = Field("", description="Why it got no more work; empty: it was not left out.")
    moments: tuple[HostMoment, ...] = Field((), description="In the order of time.")

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def share_at_work(self) -> float:
        """The share of its ranks' available time that was spent encoding, 0 to 1."""
        available = self.seconds * self.ranks
        return min(1.0, self.encode_seconds / available) if available else 0.0


class HostsOfRun(Strict):
    """The hosts of a run: rewritten while it runs, and once more at its end."""

    format_version: Literal[1] = 1
    run: str
    at: str = Field(description="When it was written.")
    ended: bool = Field(description="Whether the run has ended, successfully or not; stays false if the run was killed.")
    hosts: tuple[HostWork, ...]


def host_line(host: HostWork) -> str:
    """Format the work of a host as one line."""
    last = host.moments[-1] if host.moments else None
    state = f"left out ({host.left_out})" if host.left_out else last.state if last else "joining"
    why = f" ({last.why})" if last and last.why and not host.left_out else ""
    done = f"{host.rows:,} rows, {host.rows_per_second:,.0f} rows/s, {host.tokens_per_second:,.0f} tokens/s"
    groups = f"{host.taken:,} groups taken, {host.given_back:,} given back, {host.doubled:,} shards doubled"
    loaded = f", {host.loaded:,} rows loaded" if host.loaded else ""
    return f"{host.host}: {state}{why}, {done}, {host.share_at_work:.0%} of the time at work, {groups}{loaded}"
