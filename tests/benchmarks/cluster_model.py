"""A model of a cluster: hosts that encode, are lost and come back, one driver, and the real `WorkDivision` between them. Pure and seeded.

Seconds are simulated. A host encodes one shard after another and always has a take waiting; what it has sealed the driver hears at once.
The driver handles one event at a time, so that a slow one is seen. A host that is lost keeps what its ranks have put in the store.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tasks.adapters.engines.cluster_hosts.fleet import groups_at_once
from tasks.adapters.engines.cluster_hosts.host_seat import seconds_between_looks
from tasks.adapters.engines.remote_host import SILENCE_SECONDS
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.encoding.work_items import Call, Take
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole
from tasks.domain.shards.task_groups import grouped, rows_of

_IDENTITY = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="bfloat16")
RECORD = EncoderRecord(identity=_IDENTITY, facts=EncoderFacts(dim=384, max_seq_length=512, precision="bfloat16", device="cuda"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """What the flow's process spends, in seconds; measured by `tests.benchmarks.cluster`."""

    take: float = 0.0  # for a take, whatever is in it
    shard: float = 0.0  # more for each shard of it
    report: float = 0.0  # for a look at a host
    loaded: float = 0.0  # for each shard that a host loads
    row: float = 0.0  # for each row that the flow itself loads, without the server


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is simulated. `rate`: rows a second of a host."""

    hosts: int
    shards: int
    rows: int = 50_000
    rate: float = 16_000.0
    driver: Driver = Driver()
    lost_every: float | None = None  # seconds between two losses, whichever host it is
    known_after: float = 10.0  # until the driver knows
    back_after: float = 120.0  # until there is another in its place, encoder loaded
    unsaved: float = 10.0  # seconds of work that a lost host had not stored
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What came of it. `ideal`: seconds until hosts that are never without work, and lose none, have done all of it."""

    seconds: float
    ideal: float
    lost: int
    repeated: float  # seconds of hosts' work that was done again
    busy: float  # share of the time that the driver had something to do
    takes: int

    @property
    def efficiency(self) -> float:
        return self.ideal / self.seconds


def shards_of(scene: Scene) -> Iterator[Shard]:
    """As a plan has them; one at a time."""
    for number in range(scene.shards):
        file = FileVersion(path=f"/rows/{number:07}.parquet", name=f"{number:07}.parquet", size=1, version="1")
        yield Shard(id=f"{number:032x}", span=Span(files=(file,), extent=Whole(), rows=scene.rows))


@dataclass(slots=True, eq=False)
class _Host:
    name: str
    life: int = 0
    up: bool = True
    free: float = 0.0  # when it is done with all that it has
    since: float = 0.0
    worked: float = 0.0  # seconds in which it was there
    takes: list[tuple[Take, float, float]] = field(default_factory=list)  # with when it begins and ends each


class Simulation:
    """One course of a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.chance = scene, random.Random(scene.seed)
        self.now, self._free, self._busy = 0.0, 0.0, 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()
        self._division = WorkDivision(lambda shard: rows_of(shard, aim=scene.rows), refuse=_never, leave_out=_never)
        rows = scene.shards * scene.rows
        self._groups = grouped(shards_of(scene), aim=scene.rows, rows=rows)
        self._open, self._more = 0, True
        self._hosts = [_Host(f"h{number}") for number in range(scene.hosts)]
        self._saved: dict[str, float] = {}  # seconds of work on a shard that a lost host had stored
        self.lost, self.repeated = 0, 0.0
        self._division.expect(rows)

    def run(self) -> Course:
        """To the end."""
        for host in self._hosts:
            self._division.join(host.name)
        if self.scene.lost_every is not None:
            self._later(self.scene.lost_every, self._lose_one)
        self._feed()
        self._hand_out_to_all()
        while not self._division.idle:
            self.now, _, act, arguments = heapq.heappop(self._events)
            act(*arguments)
        there = sum(host.worked + (self.now - host.since if host.up else 0.0) for host in self._hosts)
        work = self.scene.shards * self.scene.rows / self.scene.rate
        taken = sum(record.taken for record in self._division.records.values())
        return Course(
            seconds=self.now,
            ideal=self.now * work / there,
            lost=self.lost,
            repeated=self.repeated,
            busy=self._busy / self.now,
            takes=taken,
        )

    def _later(self, seconds: float, act: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act, arguments))

    def _driver_does(self, seconds: float) -> float:
        """Queue work of the driver; how long until it is done. Looks at hosts take their share all along."""
        looks = min(0.99, self.scene.hosts / seconds_between_looks(self.scene.hosts, SILENCE_SECONDS) * self.scene.driver.report)
        took = seconds / (1 - looks)
        self._free = max(self._free, self.now) + took
        self._busy += seconds + took * looks
        return self._free - self.now

    def _feed(self) -> None:
        """As the flow's window does: so many groups at a time."""
        while self._more and self._open < groups_at_once(self._division.able):
            group = next(self._groups, None)
            if group is None:
                self._more = False
                return
            self._open += 1
            self._division.add(ShardGroup(shards=tuple(group), record=RECORD, attempt="run"), self._finished)

    def _finished(self, _call: Call) -> None:
        self._open -= 1
        self._feed()

    def _hand_out_to_all(self) -> None:
        for host in self._hosts:
            self._hand_out(host)

    def _hand_out(self, host: _Host) -> None:
        while host.up and (take := self._division.next_for(host.name)) is not None:
            arrives = self._driver_does(self.scene.driver.take + self.scene.driver.shard * len(take.units))
            begins = max(host.free, self.now + arrives)
            host.free = begins + sum(self._seconds(shard) for shard in take.units)
            host.takes.append((take, begins, host.free))
            self._later(host.free - self.now, self._answer, host, host.life, take)

    def _seconds(self, shard: str) -> float:
        return self.scene.rows / self.scene.rate - self._saved.get(shard, 0.0)

    def _answer(self, host: _Host, life: int, take: Take) -> None:
        if life != host.life:
            return
        host.takes = [each for each in host.takes if each[0] is not take]
        for shard in list(take.units):
            self._division.done(take, shard)
        self._division.answered(take)
        self._hand_out_to_all() if self._division.waiting else self._hand_out(host)

    def _lose_one(self) -> None:
        self._later(self.chance.expovariate(1 / (self.scene.lost_every or 1.0)), self._lose_one)
        there = [host for host in self._hosts if host.up]
        if not there:
            return
        host = self.chance.choice(there)
        self.lost += 1
        host.up, host.worked = False, host.worked + self.now - host.since
        host.life += 1
        self._keep(host)
        self._later(self.scene.known_after, self._known, host)
        self._later(self.scene.back_after, self._back, host)

    def _keep(self, host: _Host) -> None:
        """What it has sealed is heard of; of the shard in hand all but the last seconds is in the store."""
        for take, begins, _ in host.takes:
            at = begins
            for shard in list(take.units):
                if (ends := at + self._seconds(shard)) <= self.now:
                    self._division.done(take, shard)
                elif at < self.now:
                    lost = min(self.now - at, self.scene.unsaved)
                    self._saved[shard] = self._saved.get(shard, 0.0) + self.now - at - lost
                    self.repeated += lost
                at = ends
        host.takes, host.free = [], 0.0

    def _known(self, host: _Host) -> None:
        self._division.lose(host.name, "lost")
        self._hand_out_to_all()

    def _back(self, host: _Host) -> None:
        host.up, host.since = True, self.now
        self._division.join(host.name)
        self._hand_out(host)


def simulate(scene: Scene) -> Course:
    """A scene from its start to its end."""
    return Simulation(scene).run()


def _never(*_: object) -> None:
    raise AssertionError("nothing is refused and nobody left out here")
