"""What a division of work is about: shards on their way, the calls that wait for them, and the takes that hosts have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.encoding_spec import LoadGroup, ShardGroup
from tasks.domain.errors import KitestringError
from tasks.domain.shards.shard import Shard

MOST_STRIKES = 2  # failures running that no other host shares, after which a host is left out
AnyGroup = ShardGroup | LoadGroup  # of one division all are of one kind


@dataclass(slots=True, eq=False)
class ShardOnItsWay:
    """A shard of a call on its way. `refused`: what each host that cannot do it has said."""

    shard: Shard
    rows: int
    again: bool = False  # a host that was lost may still be at work on it
    recalled: bool = False  # asked back from a host that had not begun it, for one with nothing to do; once
    deaths: int = 0
    refused: dict[str, ShardFailed] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Call:
    """A group that somebody waits for. It is over when no unit is open; `error`: a fault that may pass, which ends it early."""

    group: AnyGroup
    finish: Callable[[Call], None]
    fresh: deque[ShardOnItsWay] = field(default_factory=deque)
    returned: list[ShardOnItsWay] = field(default_factory=list)  # from hosts that were lost or have refused them: these go first
    open: int = 0
    failures: list[ShardFailed] = field(default_factory=list)
    error: KitestringError | None = None


@dataclass(slots=True, eq=False)
class Take:
    """What one host was given of a call, and has neither done nor refused. `again`: see `ShardOnItsWay`."""

    host: str
    call: Call
    group: AnyGroup
    units: dict[str, ShardOnItsWay]
    again: bool
    refused: bool = False  # whether any of it was

    @property
    def recalled(self) -> bool:
        """Whether all that is left of it was asked back once."""
        return all(unit.recalled for unit in self.units.values())

    @property
    def rows(self) -> int:
        """Of what is left of it."""
        return sum(unit.rows for unit in self.units.values())


@dataclass(slots=True)
class HostRecord:
    """What a host has done in this run, whatever process of it. `doubled`: shards that it has sealed after another host had."""

    taken: int = 0
    given_back: int = 0
    doubled: int = 0
    loaded: int = 0  # rows
    left_out: str = ""  # why it gets no more


@dataclass(slots=True, eq=False)
class FleetMember:
    """A host of a division."""

    name: str
    record: HostRecord = field(default_factory=HostRecord)
    takes: list[Take] = field(default_factory=list)
    strikes: int = 0
    why: str = ""  # of the last one
    doubts: int = 0  # shards that it has refused and that another host has to look at
    losses: int = 0
    present: bool = True
    leaving: bool = False

    @property
    def able(self) -> bool:
        return self.present and not self.leaving and not self.record.left_out

    @property
    def sound(self) -> bool:
        return self.able and self.doubts < MOST_STRIKES and self.strikes < MOST_STRIKES
