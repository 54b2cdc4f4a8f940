"""A fleet's record of one host."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from tasks.adapters.engines.cluster_hosts.cluster import HostLink
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.fleet_progress import added, finished
from tasks.domain.encoding.work_items import Take

# new: not called yet; opening: identity requested; opened: it matches the flow's machine; loading the encoder; ready for work; barred: left out.
SeatState = Literal["new", "opening", "opened", "loading", "ready", "barred"]

ASK_SECONDS = 1.0  # between two polls of a host
MOST_LOOKS = 100  # polls per second of all hosts: each costs the flow's process a millisecond or two


def seconds_between_looks(hosts: int, silence_seconds: float) -> float:
    """The interval for polling one host: longer if there are many, but short enough for several polls before it would be given up."""
    return min(silence_seconds / 6, max(ASK_SECONDS, hosts / MOST_LOOKS))


@dataclass(slots=True, eq=False)
class HostSeat:
    """A host's seat in a fleet. `life` counts the host's successive processes: answers of an earlier one are ignored."""

    link: HostLink
    state: SeatState = "new"
    name: str = ""  # display name; known once the host is identified
    life: int = 0
    seen: int = 0  # events of this life handled so far
    heard: float = field(default_factory=monotonic)  # time of the last answer
    loading_since: float = 0.0
    settles: bool = False  # it loads while no facts are settled yet
    asked: bool = False  # a poll is unanswered
    asked_at: float = 0.0
    leaving: bool = False
    losses: int = 0  # consecutive
    not_before: float = 0.0  # earliest time of the next attempt
    takes: list[Take] = field(default_factory=list)
    loads: list[Take] = field(default_factory=list)
    _past: EncodingProgress = field(default_factory=EncodingProgress)
    _now: EncodingProgress = field(default_factory=EncodingProgress)

    @property
    def progress(self) -> EncodingProgress:
        """Progress summed over all lives."""
        return added(self._past, self._now)

    def take_in(self, progress: EncodingProgress) -> None:
        """Record the progress of the current life."""
        self._now = progress

    def end(self, state: SeatState) -> None:
        """End the process; the next one is a new life."""
        self.link.end()
        self.state, self.asked, self.leaving, self.seen = state, False, False, 0
        self.takes, self.loads = [], []
        self.life += 1
        self._past, self._now = added(self._past, finished(self._now)), EncodingProgress()


def request_share(most: int | None, seat: HostSeat, seats: list[HostSeat]) -> int | None:
    """A host's share of the requests that may be in flight to the model server.

    Hosts count as soon as they are listed, so that the others have made room before a new one has its first rows. A lost host
    keeps its share: its requests may still be in flight. If there are more hosts than requests, each has one.

    Args:
        most: limit for all hosts together; None: there is no model server.
        seat: the host.
        seats: all hosts.
    """
    if most is None:
        return None
    sharing = [each for each in seats if each.state != "barred"]
    share, left = divmod(most, max(1, len(sharing)))
    return max(1, share + (seat in sharing[:left]))
