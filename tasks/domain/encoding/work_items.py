"""The values of a work division: shards in progress, the calls that wait for them, and the takes assigned to hosts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.domain.encoding.encoding_events import ShardFailed
from tasks.domain.encoding.encoding_spec import LoadGroup, ShardGroup
from tasks.domain.errors import KitestringError
from tasks.domain.shards.shard import Shard

MOST_STRIKES = 2  # consecutive failures that no other host shares, after which a host is left out
AnyGroup = ShardGroup | LoadGroup  # all groups of one division are of the same kind


@dataclass(slots=True, eq=False)
class ShardOnItsWay:
    """A shard of a call that is not done. `refused`: the failure of each host that refused it."""

    shard: Shard
    rows: int
    again: bool = False  # a lost host may still be processing it
    recalled: bool = False  # was recalled, for an idle host, from a host that had not begun it; at most once
    deaths: int = 0  # hosts that were lost with it
    refused: dict[str, ShardFailed] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Call:
    """A group that a caller waits for. It is over when no unit is open; `error`: a transient error, which ends it early."""

    group: AnyGroup
    finish: Callable[[Call], None]
    fresh: deque[ShardOnItsWay] = field(default_factory=deque)
    returned: list[ShardOnItsWay] = field(default_factory=list)  # from hosts that were lost or refused them; assigned first
    open: int = 0
    failures: list[ShardFailed] = field(default_factory=list)
    error: KitestringError | None = None


@dataclass(slots=True, eq=False)
class Take:
    """The shards of a call that are assigned to one host and neither done nor refused. `again`: see `ShardOnItsWay`."""

    host: str
    call: Call
    group: AnyGroup
    units: dict[str, ShardOnItsWay]
    again: bool
    refused: bool = False  # whether the host refused any of its shards

    @property
    def recalled(self) -> bool:
        """Whether all remaining shards of it were recalled once."""
        return all(unit.recalled for unit in self.units.values())

    @property
    def rows(self) -> int:
        """Rows of its remaining shards."""
        return sum(unit.rows for unit in self.units.values())


@dataclass(slots=True)
class HostRecord:
    """Counts of a host in this run, over all its processes. `doubled`: shards that it sealed after another host had."""

    taken: int = 0
    given_back: int = 0
    doubled: int = 0
    loaded: int = 0  # rows
    left_out: str = ""  # why it gets no more work; empty: it is not left out


@dataclass(slots=True, eq=False)
class FleetMember:
    """A host of a work division."""

    name: str
    record: HostRecord = field(default_factory=HostRecord)
    takes: list[Take] = field(default_factory=list)
    strikes: int = 0
    why: str = ""  # reason of the last strike
    doubts: int = 0  # shards that it refused and that no other host has tried yet
    losses: int = 0
    present: bool = True
    leaving: bool = False

    @property
    def able(self) -> bool:
        return self.present and not self.leaving and not self.record.left_out

    @property
    def sound(self) -> bool:
        return self.able and self.doubts < MOST_STRIKES and self.strikes < MOST_STRIKES
