"""What a fleet knows of one of its hosts."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from tasks.adapters.engines.cluster_hosts.cluster import HostLink
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.fleet_progress import added, finished
from tasks.domain.encoding.work_items import Take

# new: to be called; opening: asked who it is; opened: the same as the flow's machine; loading: its encoder; ready: it works.
SeatState = Literal["new", "opening", "opened", "loading", "ready", "barred"]

ASK_SECONDS = 1.0  # between two looks at a host
MOST_LOOKS = 100  # at hosts in a second: each costs the flow's process a millisecond or two


def seconds_between_looks(hosts: int, silence_seconds: float) -> float:
    """At one host: longer where there are many, and several before it would be given up."""
    return min(silence_seconds / 6, max(ASK_SECONDS, hosts / MOST_LOOKS))


@dataclass(slots=True, eq=False)
class HostSeat:
    """A host's seat in a fleet; processes of it come and go. `life` counts them: what an earlier one answers comes too late."""

    link: HostLink
    state: SeatState = "new"
    name: str = ""  # for people; known once it has said who it is
    life: int = 0
    seen: int = 0  # events of this life that are taken in
    heard: float = field(default_factory=monotonic)
    loading_since: float = 0.0
    settles: bool = False  # it loads what no other has loaded yet
    asked: bool = False  # how it is, and it has not answered
    asked_at: float = 0.0
    leaving: bool = False
    losses: int = 0  # running
    not_before: float = 0.0  # when it may be tried again
    takes: list[Take] = field(default_factory=list)
    loads: list[Take] = field(default_factory=list)
    _past: EncodingProgress = field(default_factory=EncodingProgress)
    _now: EncodingProgress = field(default_factory=EncodingProgress)

    @property
    def progress(self) -> EncodingProgress:
        """Of all its lives."""
        return added(self._past, self._now)

    def take_in(self, progress: EncodingProgress) -> None:
        """How far this life is."""
        self._now = progress

    def end(self, state: SeatState) -> None:
        """End its process; the next one is another life."""
        self.link.end()
        self.state, self.asked, self.leaving, self.seen = state, False, False, 0
        self.takes, self.loads = [], []
        self.life += 1
        self._past, self._now = added(self._past, finished(self._now)), EncodingProgress()


def request_share(most: int | None, seat: HostSeat, seats: list[HostSeat]) -> int | None:
    """How many requests a host may have in flight to the server that encodes, of those of all hosts together.

    Hosts count from the moment they are seen, so that the others have made room before a new one has its first rows. One that is
    lost keeps its share: what it had sent may be in flight still. Where there are more hosts than requests, each has one.

    Args:
        most: of all hosts together; None: no server is asked.
        seat: of the host.
        seats: of all hosts.
    """
    if most is None:
        return None
    sharing = [each for each in seats if each.state != "barred"]
    share, left = divmod(most, max(1, len(sharing)))
    return max(1, share + (seat in sharing[:left]))
