"""Chooses takes to recall from hosts that have not begun them, for idle hosts (work stealing).

A host holds two takes, so if shards are few, or a host joins at the end, all remaining work may be queued at other hosts. A recalled take
is encoded elsewhere under a new attempt, which adopts the finished parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Take

UNUSED_SECONDS = 2.0  # idle time of a host before work is recalled for it: the flow may be about to hand out more
PAIR_SECONDS = 0.5  # between two searches
LEAST_OF_RATE = 0.5  # of the other host's rate: a host with two takes would finish the second before a slower host could


class Recalls:
    """Pure state of the fleet's thread.

    Args:
        division: the division of encoding work.
        clock: seconds, monotonic.
    """

    def __init__(self, division: WorkDivision, clock: Callable[[], float]) -> None:
        self._division, self._clock = division, clock
        self._looked = clock()
        self._idle: dict[str, float] = {}  # since when each host is idle
        self._recalled: dict[str, Take] = {}  # the latest take recalled for each host

    def due(self, seats: Sequence[HostSeat]) -> list[tuple[HostSeat, Take]]:
        """Takes to recall now, each with the host that has it; marks them as recalled."""
        now = self._clock()
        if now - self._looked < PAIR_SECONDS:
            return []
        self._looked = now
        idle = [seat for seat in seats if seat.state == "ready" and not seat.leaving and not seat.takes]
        self._idle = {seat.name: self._idle.get(seat.name, now) for seat in idle}
        waiting = [seat for seat in idle if now - self._idle[seat.name] >= UNUSED_SECONDS]
        if not waiting or not (spare := self._division.spare()):
            return []
        holders = {id(take): seat for seat in seats for take in seat.takes}
        chosen = list[tuple[HostSeat, Take]]()
        for seat in waiting:
            if id(self._recalled.get(seat.name)) in holders:
                continue  # the take recalled for it is not returned yet
            take = next((take for take in spare if self._is_worth(seat, holders[id(take)], take)), None)
            if take is not None:
                spare.remove(take)
                self._recalled[seat.name] = take
                self._division.recall(take)
                chosen.append((holders[id(take)], take))
        return chosen

    def _is_worth(self, seat: HostSeat, other: HostSeat, take: Take) -> bool:
        return self._division.may_have(seat.name, take) and (not (rate := _rate(seat)) or rate >= LEAST_OF_RATE * _rate(other))


def _rate(seat: HostSeat) -> float:
    """Rows per second of encoding; 0: unknown."""
    progress = seat.progress
    return progress.rows / progress.seconds if progress.seconds else 0.0
