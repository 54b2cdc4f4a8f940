"""The scheduler of a cluster: divides the shards of a run, to encode or to load, among hosts that join, leave, fail and time out.

Pure state, driven by one thread (`tasks.adapters.engines.cluster_hosts.fleet_driver`), without any engine, clock or network.

- A host has up to `TAKES_AT_ONCE` takes, so that it reads one while it encodes another. A take is a share of the remaining rows,
  rows / (4 x hosts), and at most `MOST_SHARDS` shards: hosts of different speed finish together ("guided self-scheduling").
- The shards of a lost host are queued again, ahead of others. They are encoded under an attempt of their own: the lost host may
  still be running, and no two hosts may write the same key. The first seal wins.
- An idle host gets shards that another host has been assigned but has not begun: they are recalled, each shard at most once (`spare`).
  So a host that joins late is used, however few the shards are.
- A shard that a host refuses goes to another host; it fails permanently when two refuse it or no other host is left. A host
  is left out after two failures that other hosts do not share. A transient error goes to the caller, which retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.work_items import MOST_STRIKES, AnyGroup, Call, FleetMember, HostRecord, ShardOnItsWay, Take
from tasks.domain.errors import KitestringError, Transient
from tasks.domain.shards.shard import Shard

TAKES_AT_ONCE = 2  # takes of a host at a time
MOST_SHARDS = 16  # in a take: with 50 the flow's window holds too few takes for a thousand hosts (tests/benchmarks)
TAKES_OF_THE_REST = 4  # a host's share of the remaining rows is at least so many takes
MOST_DEATHS = 3  # hosts lost with a shard before it is given up; losses of a host, with no finished take in between, before it is left out


class WorkDivision:
    """The division of a run's shards among hosts.

    Args:
        rows_of: returns the number of rows of a shard, or an estimate.
        refuse: called with each shard that has failed permanently.
        leave_out: called with each host that gets no more work, and the reason; None: no host is left out for failures.
        takes_at_once: most takes of a host at a time.
        most_shards: most shards in a take.
    """

    def __init__(
        self,
        rows_of: Callable[[Shard], int],
        *,
        refuse: Callable[[ShardFailed], None],
        leave_out: Callable[[str, str], None] | None,
        takes_at_once: int = TAKES_AT_ONCE,
        most_shards: int = MOST_SHARDS,
    ) -> None:
        self._rows_of, self._refuse, self._leave_out = rows_of, refuse, leave_out
        self._takes_at_once, self._most_shards = takes_at_once, most_shards
        self._calls: list[Call] = []
        self._members: dict[str, FleetMember] = {}
        self._unsure: set[str] = set()  # shards that a lost host may still be processing
        self._expected = self._queued = 0  # unassigned rows: by the forecast of `expect`, and of the groups added so far
        self._foreseen = False

    # Work

    def expect(self, rows: int | None) -> None:
        """Set the number of rows of the whole run; None: unknown."""
        self._expected, self._foreseen = rows or 0, rows is not None

    def add(self, group: AnyGroup, finish: Callable[[Call], None]) -> None:
        """Add a group; `finish` is called when it is done or has failed."""
        call = Call(group, finish, open=len(group.shards))
        for shard in group.shards:
            unit = ShardOnItsWay(shard, max(1, self._rows_of(shard)), again=shard.id in self._unsure)
            (call.returned if unit.again else call.fresh).append(unit)
            self._queued += unit.rows
        self._calls.append(call)
        self._end_if_over(call)

    @property
    def waiting(self) -> bool:
        """Whether there are unassigned shards."""
        return self._queued > 0

    @property
    def idle(self) -> bool:
        """Whether no call is open."""
        return not self._calls

    # Hosts

    @property
    def records(self) -> dict[str, HostRecord]:
        """Records of all hosts that ever joined or were left out, by name."""
        return {name: member.record for name, member in list(self._members.items())}  # a copy: other threads call this, too

    @property
    def able(self) -> int:
        """The number of hosts that accept work."""
        return sum(member.able for member in self._members.values())

    def join(self, host: str) -> None:
        """Record that a host is ready for work, for the first time or again after it was lost."""
        member = self._members.setdefault(host, FleetMember(host))
        member.present, member.leaving, member.takes = True, False, []

    def leave(self, host: str) -> None:
        """Record that a host accepts no more work; it finishes or returns what it has."""
        if host in self._members:
            self._members[host].leaving = True
            self._settle_refused()

    def lose(self, host: str, why: str) -> None:
        """Record that a host is gone or silent; its shards go to other hosts."""
        member = self._members.get(host)
        if member is None or not member.present:
            return
        member.present, takes, member.takes = False, member.takes, []
        member.losses += not member.leaving
        for take in takes:
            for unit in take.units.values():
                unit.deaths += not member.leaving
            self._give_back(member, take, f"host {host} was lost ({why})")
        if member.losses >= MOST_DEATHS:
            self.bar(host, f"it was lost {member.losses} times in a row: {why}")
        self._settle_refused()

    def bar(self, host: str, why: str) -> None:
        """Leave a host out: it gets no more work in this run."""
        member = self._members.setdefault(host, FleetMember(host, present=False))
        if self._leave_out is not None and not member.record.left_out:
            member.record.left_out, takes, member.takes = why, member.takes, []
            for take in takes:
                self._give_back(member, take, f"host {host} was left out ({why})")
            self._leave_out(host, why)
            self._settle_refused()

    def fail_all(self, error: KitestringError) -> None:
        """Fail all calls, whether their shards wait or are assigned."""
        for member in self._members.values():
            member.takes.clear()
        for call in list(self._calls):
            self._fail(call, error)
            call.open = 0
            self._end_if_over(call)

    # Takes

    def ahead_of(self, host: str) -> int | None:
        """Return the rows assigned to a host plus its share of the unassigned ones; None if the run's number of rows is unknown."""
        member = self._members.get(host)
        if member is None or not self._foreseen:
            return None
        assigned = sum(take.rows for take in member.takes)
        return assigned + max(self._expected, self._queued) // max(1, self.able)

    def next_for(self, host: str) -> Take | None:
        """Assign a take to a host; None: it has enough, or there is none for it."""
        member = self._members.get(host)
        if not self._queued or member is None or not member.able or len(member.takes) >= self._takes_at_once:
            return None  # called often, for every host: return before scanning the calls if nothing is queued
        trusted = member.sound or not any(other.sound for other in self._members.values())
        for call in self._calls:
            if (call.returned or call.fresh) and (units := self._choose(call, member, trusted=trusted)):
                return self._take(member, call, units)
        return None

    def spare(self) -> list[Take]:
        """Return the takes that may be recalled for idle hosts: the newest take of each host that has another one, largest first."""
        if self._queued:
            return []
        newest = (member.takes[-1] for member in self._members.values() if member.able and len(member.takes) > 1)
        return sorted((take for take in newest if take.rows and not take.recalled), key=lambda take: -take.rows)

    def may_have(self, host: str, take: Take) -> bool:
        """Whether an idle host may get a take that another host returns."""
        member = self._members.get(host)
        return member is not None and member.sound and not member.takes and not any(host in unit.refused for unit in take.units.values())

    def recall(self, take: Take) -> None:
        """Record that a take's host was asked to return what it has not begun. The take stays assigned until the host returns it."""
        for unit in take.units.values():
            unit.recalled = True

    def done(self, take: Take, shard: str) -> None:
        """Record that a shard of a take is sealed. This counts as a failure of each host that had refused the shard."""
        unit = self._pop_unit(take, shard)
        if unit is None:
            return
        self._close(take.call, unit)
        for host, failed in unit.refused.items():
            self._strike(self._members[host], f"{failed.name}: {failed.text}")
            self._leave_out_if_alone(self._members[host])

    def refused(self, take: Take, failed: ShardFailed) -> None:
        """Record that a host refused a shard, and queue the shard for another host."""
        unit, member = self._pop_unit(take, failed.shard), self._members[take.host]
        if unit is None:
            return
        take.refused, unit.refused[take.host] = True, failed
        member.doubts += 1
        if take.call.error is not None:
            self._close(take.call, unit)
            return
        self._queue_again(take.call, [unit])
        self._settle_refused()

    def answered(self, take: Take, error: KitestringError | None = None, *, given_back: bool = False) -> None:
        """Record that a host has ended a take. Shards of it that were neither sealed nor refused needed nothing, or are retried.

        Args:
            take: the take; ignored if it is no longer assigned to the host.
            error: the transient error that ended the take early.
            given_back: the host returned the take unfinished, because it is leaving or the take was recalled.
        """
        member = self._members[take.host]
        if take not in member.takes:
            return
        member.takes.remove(take)
        if given_back:
            self._give_back(member, take, f"host {take.host} gave it back")
        elif error is not None:
            self._fail(take.call, error)
            for unit in take.units.values():
                self._close(take.call, unit)
            self._strike(member, str(error))
        else:
            for unit in list(take.units.values()):
                self._close(take.call, unit)
            if not take.refused:
                self._trust(member)
        self._end_if_over(take.call)

    # Inside

    def _pop_unit(self, take: Take, shard: str) -> ShardOnItsWay | None:
        """Remove a shard from a take; None if the take is no longer assigned to the host or does not contain the shard."""
        return take.units.pop(shard, None) if take in self._members[take.host].takes else None

    def _choose(self, call: Call, member: FleetMember, *, trusted: bool) -> list[ShardOnItsWay]:
        """Choose a returned shard, or a share of the fresh ones. An untrusted host gets only shards that other hosts have refused."""
        spared = all(take.recalled for take in member.takes)  # recalled shards are for hosts that have nothing else
        for unit in call.returned:
            if member.name not in unit.refused and (trusted or unit.refused) and (spared or not unit.recalled):
                call.returned.remove(unit)
                return [unit]
        if not trusted or not call.fresh:
            return []
        left = max(self._expected, self._queued)
        most, chosen, rows = left / (TAKES_OF_THE_REST * max(1, self.able)), list[ShardOnItsWay](), 0
        while call.fresh and len(chosen) < self._most_shards and (not chosen or rows + call.fresh[0].rows <= most):
            chosen.append(call.fresh.popleft())
            rows += chosen[-1].rows
        self._expected -= rows
        return chosen

    def _take(self, member: FleetMember, call: Call, units: list[ShardOnItsWay]) -> Take:
        self._queued -= sum(unit.rows for unit in units)
        again = units[0].again
        group = call.group.take((unit.shard for unit in units), apart=again or bool(units[0].refused))
        take = Take(member.name, call, group, {unit.shard.id: unit for unit in units}, again)
        member.takes.append(take)
        member.record.taken += 1
        return take

    def _give_back(self, member: FleetMember, take: Take, why: str) -> None:
        units, call = list(take.units.values()), take.call
        member.record.given_back += bool(units)
        for unit in units:
            self._unsure.add(unit.shard.id)
            unit.again = True
        if hopeless := [unit for unit in units if unit.deaths >= MOST_DEATHS]:
            named = hopeless[0].shard.name
            self._fail(call, Transient(f"{hopeless[0].deaths} hosts were lost while working on {named}, so it was given up; {why}"))
        if call.error is None:
            self._queue_again(call, units)
        else:
            call.open -= len(units)
        self._end_if_over(call)

    def _queue_again(self, call: Call, units: Iterable[ShardOnItsWay]) -> None:
        for unit in units:
            call.returned.append(unit)
            self._queued += unit.rows

    def _fail(self, call: Call, error: KitestringError) -> None:
        """Record a transient error and drop the queued shards of the call, because the caller retries the whole call."""
        call.error = call.error or error
        for unit in [*call.fresh, *call.returned]:
            self._queued -= unit.rows
            self._close(call, unit)
        call.fresh.clear()
        call.returned.clear()

    def _close(self, call: Call, unit: ShardOnItsWay) -> None:
        call.open -= 1
        for host in unit.refused:
            self._members[host].doubts -= 1
        self._end_if_over(call)

    def _settle_refused(self) -> None:
        """Fail the shards that two hosts have refused, or that one has refused and no other host can try."""
        for call in list(self._calls):
            for unit in [unit for unit in call.returned if unit.refused and self._is_settled(unit)]:
                call.returned.remove(unit)
                self._queued -= unit.rows
                first = next(iter(unit.refused.values()))
                call.failures.append(first)
                self._refuse(first)
                self._close(call, unit)

    def _is_settled(self, unit: ShardOnItsWay) -> bool:
        return len(unit.refused) > 1 or not any(member.able and member.name not in unit.refused for member in self._members.values())

    def _strike(self, member: FleetMember, why: str) -> None:
        member.strikes, member.why = member.strikes + 1, why

    def _trust(self, member: FleetMember) -> None:
        """Record that a host has done a take without a failure. Hosts with strikes and no open take have then failed alone."""
        member.strikes = member.losses = 0
        for other in list(self._members.values()):
            if other is not member and not other.takes:
                self._leave_out_if_alone(other)

    def _leave_out_if_alone(self, member: FleetMember) -> None:
        others = any(other.able and other is not member for other in self._members.values())
        if member.able and member.strikes >= MOST_STRIKES and others:
            self.bar(member.name, f"it failed {member.strikes} times in a row where others did not: {member.why}")

    def _end_if_over(self, call: Call) -> None:
        if call.open <= 0 and call in self._calls:
            self._calls.remove(call)
            call.finish(call)
