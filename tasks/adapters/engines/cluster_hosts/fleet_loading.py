"""Decides which host of a fleet loads which sealed shards, how many load concurrently, and the rate that they share."""

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
MOST_LOADED = 4  # shards of a take: those of a lost host are loaded again elsewhere from the first row
TOGETHER_SECONDS = 2 * ASK_SECONDS  # simultaneous refusals of several hosts arrive within this time
log = logging.getLogger("kitestring.fleet")


class FleetLoading:
    """Pure state of the fleet's thread: a work division for loading, and the rate that all hosts share.

    Args:
        streams: concurrent takes of all hosts together.
        rows_of: returns the approximate number of rows of a shard.
        clock: seconds, monotonic.
    """

    def __init__(self, streams: int, rows_of: Callable[[Shard], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.division = WorkDivision(rows_of, refuse=_refused, leave_out=None, takes_at_once=MOST_STREAMS, most_shards=MOST_LOADED)
        self._streams = streams
        self._throttle = Throttle(clock=clock, together=TOGETHER_SECONDS)
        self._heard: dict[int, LoadCounts] = {}  # by seat, of its current life

    @property
    def rate(self) -> float | None:
        """Rows per second of all hosts together; None: unlimited."""
        return self._throttle.rate

    def next_for(self, seat: HostSeat, seats: list[HostSeat]) -> Take | None:
        """The next take for a host to load; None if there is none or all streams are in use. Spreads streams evenly over hosts."""
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
        """The rate of a host in proportion to its takes in progress, and how many of its refusals that rate accounts for."""
        under_way = max(1, sum(len(each.loads) for each in seats))
        rate = None if self.rate is None else self.rate * max(1, len(seat.loads)) / under_way
        return rate, self._heard.get(id(seat), LoadCounts()).refusals

    def hear(self, seat: HostSeat, counts: LoadCounts) -> None:
        """Take in the load counts that a host reports."""
        self._throttle.hear(self._heard.get(id(seat), LoadCounts()), counts)
        self._heard[id(seat)] = counts

    def end(self, seat: HostSeat) -> None:
        """Forget the counts of a host's life that has ended."""
        self._heard.pop(id(seat), None)


def _refused(failed: ShardFailed) -> None:
    """Only logs: the flow loads such a shard itself."""
    log.info("no host can load %s: %s", failed.name, failed.text)
