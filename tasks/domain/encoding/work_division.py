"""Who does which shards, encoding or loading them: the groups of a run divided among hosts that come, go, fail and fall silent.

Pure state, asked and told by one thread (`tasks.adapters.engines.cluster_hosts.fleet_driver`); it knows no engine, no clock and no network.

- A host has `TAKES_AT_ONCE` takes at a time, so that it reads one while it encodes another. A take is a share of what is left,
  left / (4 x hosts), at most `MOST_SHARDS`: hosts of unlike speed end together ("guided self-scheduling").
- A host that is lost gives its shards back, and they go first. They are encoded under an attempt of their own: the lost host
  may still be at work somewhere, and no two hosts may write the same key. Whichever seals first wins.
- A host with nothing to do gets what another has in its window and has not begun: it is asked back, a shard once at most (`spare`). So a
  host that joins late is used, however few the shards are.
- A shard that a host refuses is given to another; only when two refuse it, or there is no other, has it failed for good. A host
  whose failures others do not share is left out after two. A fault that may pass goes to whoever asked, who tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.work_items import MOST_STRIKES, AnyGroup, Call, FleetMember, HostRecord, ShardOnItsWay, Take
from tasks.domain.errors import KitestringError, Transient
from tasks.domain.shards.shard import Shard

TAKES_AT_ONCE = 2  # takes of a host at a time
MOST_SHARDS = 16  # in a take: with 50 the flow's window holds too few of them for a thousand hosts (tests/benchmarks)
TAKES_OF_THE_REST = 4  # for each host
MOST_DEATHS = 3  # hosts lost with a shard in hand before it is given up; losses of a host without a take done between


class WorkDivision:
    """The state of a run's division.

    Args:
        rows_of: how many rows a shard has, or about.
        refuse: told of each shard that has failed for good.
        leave_out: told of each host that gets no more work, and why; None: a host that fails is given less, and never none.
        takes_at_once: of a host.
        most_shards: in a take.
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
        self._unsure: set[str] = set()  # shards that a lost host may still be at work on
        self._expected = self._queued = 0  # rows that no host was given yet: as foreseen, and of those that are here
        self._foreseen = False

    # Work

    def expect(self, rows: int | None) -> None:
        """So many rows are to come in all; None: nobody knows."""
        self._expected, self._foreseen = rows or 0, rows is not None

    def add(self, group: AnyGroup, finish: Callable[[Call], None]) -> None:
        """A group to be done; `finish` is called when it is, or has failed."""
        call = Call(group, finish, open=len(group.shards))
        for shard in group.shards:
            unit = ShardOnItsWay(shard, max(1, self._rows_of(shard)), again=shard.id in self._unsure)
            (call.returned if unit.again else call.fresh).append(unit)
            self._queued += unit.rows
        self._calls.append(call)
        self._end_if_over(call)

    @property
    def waiting(self) -> bool:
        """Whether there are shards that no host has."""
        return self._queued > 0

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._calls

    # Hosts

    @property
    def records(self) -> dict[str, HostRecord]:
        """Of every host that ever joined or was left out."""
        return {name: member.record for name, member in list(self._members.items())}  # asked by other threads, too

    @property
    def able(self) -> int:
        """Hosts that take work."""
        return sum(member.able for member in self._members.values())

    def join(self, host: str) -> None:
        """It is ready for work: for the first time, or again after it was lost."""
        member = self._members.setdefault(host, FleetMember(host))
        member.present, member.leaving, member.takes = True, False, []

    def leave(self, host: str) -> None:
        """It takes no more work, and finishes or gives back what it has."""
        if host in self._members:
            self._members[host].leaving = True
            self._settle_refused()

    def lose(self, host: str, why: str) -> None:
        """It is gone, or silent: what it has goes to others."""
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
            self.bar(host, f"it was lost {member.losses} times running: {why}")
        self._settle_refused()

    def bar(self, host: str, why: str) -> None:
        """It gets no more work in this run."""
        member = self._members.setdefault(host, FleetMember(host, present=False))
        if self._leave_out is not None and not member.record.left_out:
            member.record.left_out, takes, member.takes = why, member.takes, []
            for take in takes:
                self._give_back(member, take, f"host {host} was left out ({why})")
            self._leave_out(host, why)
            self._settle_refused()

    def fail_all(self, error: KitestringError) -> None:
        """Nobody will do what is waiting, nor what is under way."""
        for member in self._members.values():
            member.takes.clear()
        for call in list(self._calls):
            self._fail(call, error)
            call.open = 0
            self._end_if_over(call)

    # Takes

    def ahead_of(self, host: str) -> int | None:
        """Rows that a host has in hand, and its share of those that nobody has; None where nobody knows what is to come."""
        member = self._members.get(host)
        if member is None or not self._foreseen:
            return None
        held = sum(take.rows for take in member.takes)
        return held + max(self._expected, self._queued) // max(1, self.able)

    def next_for(self, host: str) -> Take | None:
        """What a host should begin now; None: it has enough, or there is nothing for it."""
        member = self._members.get(host)
        if not self._queued or member is None or not member.able or len(member.takes) >= self._takes_at_once:
            return None  # asked for every host, again and again: without a look at the calls where none has anything left
        trusted = member.sound or not any(other.sound for other in self._members.values())
        for call in self._calls:
            if (call.returned or call.fresh) and (units := self._choose(call, member, trusted=trusted)):
                return self._take(member, call, units)
        return None

    def spare(self) -> list[Take]:
        """What may be asked back for hosts that have nothing: the newest take of each that has another one, the largest first."""
        if self._queued:
            return []
        newest = (member.takes[-1] for member in self._members.values() if member.able and len(member.takes) > 1)
        return sorted((take for take in newest if take.rows and not take.recalled), key=lambda take: -take.rows)

    def may_have(self, host: str, take: Take) -> bool:
        """Whether a host with nothing in hand may have what another gives back."""
        member = self._members.get(host)
        return member is not None and member.sound and not member.takes and not any(host in unit.refused for unit in take.units.values())

    def recall(self, take: Take) -> None:
        """Its host is asked to give it back, as far as it has not begun it; it goes on as long as it does not."""
        for unit in take.units.values():
            unit.recalled = True

    def done(self, take: Take, shard: str) -> None:
        """A shard of it is sealed. Hosts that have refused it before have failed alone."""
        unit = self._held(take, shard)
        if unit is None:
            return
        self._close(take.call, unit)
        for host, failed in unit.refused.items():
            self._strike(self._members[host], f"{failed.name}: {failed.text}")
            self._leave_out_if_alone(self._members[host])

    def refused(self, take: Take, failed: ShardFailed) -> None:
        """A host cannot do a shard: another one shall look at it."""
        unit, member = self._held(take, failed.shard), self._members[take.host]
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
        """A host has ended a take: shards of it that were neither sealed nor refused had nothing to do, or wait for another try.

        Args:
            take: one that was taken from the host meanwhile changes nothing.
            error: a fault that may pass, and ended it early.
            given_back: the host is leaving, or was asked for it, and that ended it.
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

    def _held(self, take: Take, shard: str) -> ShardOnItsWay | None:
        """A shard that leaves a take; None where the take is no longer the host's, or it has left before."""
        return take.units.pop(shard, None) if take in self._members[take.host].takes else None

    def _choose(self, call: Call, member: FleetMember, *, trusted: bool) -> list[ShardOnItsWay]:
        """Shards for a host: one that came back, or as many fresh ones as are its share. Who is not trusted looks at what others refuse."""
        spared = all(take.recalled for take in member.takes)  # what was asked back is for hosts that have nothing else
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
            self._fail(call, Transient(f"{hopeless[0].deaths} hosts were lost with {named} in hand, so it was given up; {why}"))
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
        """A fault that may pass: what waits of the call is dropped, since all of it is tried again."""
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
        """What two hosts have refused, or one where no other is left to ask, has failed for good."""
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
        """A take went well: those that failed meanwhile, and have nothing in hand that may go well, too, have failed alone."""
        member.strikes = member.losses = 0
        for other in list(self._members.values()):
            if other is not member and not other.takes:
                self._leave_out_if_alone(other)

    def _leave_out_if_alone(self, member: FleetMember) -> None:
        others = any(other.able and other is not member for other in self._members.values())
        if member.able and member.strikes >= MOST_STRIKES and others:
            self.bar(member.name, f"it failed {member.strikes} times running where others did not: {member.why}")

    def _end_if_over(self, call: Call) -> None:
        if call.open <= 0 and call in self._calls:
            self._calls.remove(call)
            call.finish(call)
