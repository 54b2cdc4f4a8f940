"""Which takes are asked back from hosts that have not begun them, for hosts that have nothing to do.

A host has two takes, so where shards are few, or one joins at the end, all that is left may be in the windows of others. What a host gives
back is encoded elsewhere under an attempt of its own, which adopts the parts that were finished.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Take

UNUSED_SECONDS = 2.0  # of a host, before others are asked: the flow may be about to hand out more
PAIR_SECONDS = 0.5
LEAST_OF_RATE = 0.5  # of the other host's rate: who has two takes finishes the second before a slower one would


class Recalls:
    """Pure state of the fleet's thread.

    Args:
        division: of what hosts encode.
        clock: seconds, monotonic.
    """

    def __init__(self, division: WorkDivision, clock: Callable[[], float]) -> None:
        self._division, self._clock = division, clock
        self._looked = clock()
        self._idle: dict[str, float] = {}  # since when each host has had nothing
        self._asked: dict[str, Take] = {}  # for each

    def due(self, seats: Sequence[HostSeat]) -> list[tuple[HostSeat, Take]]:
        """Takes that are to be asked back now, and of whom; they count as asked."""
        now = self._clock()
        if now - self._looked < PAIR_SECONDS:
            return []
        self._looked = now
        idle = [seat for seat in seats if seat.state == "ready" and not seat.leaving and not seat.takes]
        self._idle = {seat.name: self._idle.get(seat.name, now) for seat in idle}
        waiting = [seat for seat in idle if now - self._idle[seat.name] >= UNUSED_SECONDS]
        if not waiting or not (spare := self._division.spare()):
            return []
        whose = {id(take): seat for seat in seats for take in seat.takes}
        chosen = list[tuple[HostSeat, Take]]()
        for seat in waiting:
            if id(self._asked.get(seat.name)) in whose:
                continue  # what was asked back for it has not come yet
            take = next((take for take in spare if self._is_worth(seat, whose[id(take)], take)), None)
            if take is not None:
                spare.remove(take)
                self._asked[seat.name] = take
                self._division.recall(take)
                chosen.append((whose[id(take)], take))
        return chosen

    def _is_worth(self, seat: HostSeat, other: HostSeat, take: Take) -> bool:
        return self._division.may_have(seat.name, take) and (not (rate := _rate(seat)) or rate >= LEAST_OF_RATE * _rate(other))


def _rate(seat: HostSeat) -> float:
    """Rows a second while it encodes; 0: not known."""
    progress = seat.progress
    return progress.rows / progress.seconds if progress.seconds else 0.0
