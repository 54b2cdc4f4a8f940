"""Which host of a fleet loads which sealed shards, how many load at a time, and how fast all of them may."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tasks.adapters.engines.cluster_hosts.host_seat import ASK_SECONDS, HostSeat
from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Take
from tasks.domain.shards.shard import Shard
from tasks.domain.target.rate_limit import LoadCounts, Throttle

MOST_STREAMS = 8  # of a host: each holds a part in memory
MOST_LOADED = 4  # shards of a take: a host that is lost loads them again elsewhere from the first row
TOGETHER_SECONDS = 2 * ASK_SECONDS  # refusals of one moment are heard of within this
log = logging.getLogger("kitestring.fleet")


class FleetLoading:
    """Pure state of the fleet's thread: a division of its own, and the rate that all hosts share.

    Args:
        streams: takes at a time, all hosts together.
        rows_of: how many rows a shard has, or about.
        clock: seconds, monotonic.
    """

    def __init__(self, streams: int, rows_of: Callable[[Shard], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.division = WorkDivision(rows_of, refuse=_refused, leave_out=None, takes_at_once=MOST_STREAMS, most_shards=MOST_LOADED)
        self._streams = streams
        self._throttle = Throttle(clock=clock, together=TOGETHER_SECONDS)
        self._heard: dict[int, LoadCounts] = {}  # by seat, of its present life

    @property
    def rate(self) -> float | None:
        """Rows a second, all hosts together; None: as many as the server takes."""
        return self._throttle.rate

    def next_for(self, seat: HostSeat, seats: list[HostSeat]) -> Take | None:
        """What a host should load now; None: nothing, or enough hosts are loading. Streams are spread evenly."""
        if not self.division.waiting or seat.leaving:
            return None
        under_way, able = sum(len(each.loads) for each in seats), max(1, self.division.able)
        if under_way >= self._streams or len(seat.loads) >= -(-self._streams // able):
            return None
        take = self.division.next_for(seat.name)
        if take is not None:
            self._throttle.begin()
        return take

    def share(self, seat: HostSeat, seats: list[HostSeat]) -> tuple[float | None, int]:
        """The rate of a host, by its share of what is under way, and how many of its refusals that rate knows of."""
        under_way = max(1, sum(len(each.loads) for each in seats))
        rate = None if self.rate is None else self.rate * max(1, len(seat.loads)) / under_way
        return rate, self._heard.get(id(seat), LoadCounts()).refusals

    def hear(self, seat: HostSeat, counts: LoadCounts) -> None:
        """What a host has loaded by now."""
        self._throttle.hear(self._heard.get(id(seat), LoadCounts()), counts)
        self._heard[id(seat)] = counts

    def end(self, seat: HostSeat) -> None:
        """A life of it is over."""
        self._heard.pop(id(seat), None)


def _refused(failed: ShardFailed) -> None:
    """The flow looks at it itself."""
    log.info("no host can load %s: %s", failed.name, failed.text)
