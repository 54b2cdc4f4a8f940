"""Which takes are asked back, when, and for whom."""

from __future__ import annotations

from typing import Any, cast

from tasks.adapters.engines.cluster_hosts.host_seat import HostSeat
from tasks.adapters.engines.cluster_hosts.recalls import UNUSED_SECONDS, Recalls
from tasks.domain.encoder_identity import EncoderFacts, EncoderIdentity, EncoderRecord
from tasks.domain.encoding.encoding_progress import EncodingProgress
from tasks.domain.encoding.encoding_spec import ShardGroup
from tasks.domain.encoding.work_division import WorkDivision
from tasks.domain.errors import Transient
from tasks.domain.shards.shard import FileVersion, Shard, Span, Whole

IDENTITY = EncoderIdentity(kind="k", model="m", revision=None, weights="w", preprocessing={}, precision="float32")
RECORD = EncoderRecord(identity=IDENTITY, facts=EncoderFacts(dim=4, max_seq_length=None, precision="float32", device="cpu"))


class Bench:
    """Hosts that are ready, the first of which has every shard in its window."""

    def __init__(self, *hosts: str, shards: int = 2) -> None:
        self.now = 0.0
        self.division = WorkDivision(lambda _: 100, refuse=lambda _: None, leave_out=lambda *_: None)
        self.recalls = Recalls(self.division, lambda: self.now)
        self.seats = {name: HostSeat(cast("Any", None), state="ready", name=name) for name in hosts}
        files = [FileVersion(path=f"/rows/{n}", name=f"{n}", size=1, version="1") for n in range(shards)]
        some = tuple(Shard(id=f"{n:032x}", span=Span(files=(file,), extent=Whole(), rows=100)) for n, file in enumerate(files))
        self.division.add(ShardGroup(shards=some, record=RECORD, attempt="run"), lambda _: None)
        for name in hosts:
            self.division.join(name)
            while take := self.division.next_for(name):
                self.seats[name].takes.append(take)

    def after(self, seconds: float) -> list[str]:
        """Whose takes are asked back then."""
        self.now += seconds
        return [seat.name for seat, _ in self.recalls.due([*self.seats.values()])]

    def encoded(self, host: str, rows: int) -> None:
        self.seats[host].take_in(EncodingProgress(rows=rows, seconds=10.0))


def test_a_host_has_to_have_had_nothing_for_a_while_and_each_take_is_asked_for_once() -> None:
    bench = Bench("a", "late", "later")
    assert bench.after(1) == []
    assert bench.after(UNUSED_SECONDS) == ["a"]
    assert bench.after(60) == [], "there is one take that a host has not begun"


def test_for_one_idle_host_one_take_is_on_its_way() -> None:
    bench = Bench("a", "b", "late", shards=4)
    assert bench.after(1) == []
    assert len(bench.after(UNUSED_SECONDS)) == 1
    assert bench.after(60) == [], "it has not been answered"
    asked = next(take for seat in bench.seats.values() for take in seat.takes if take.recalled)
    bench.seats[asked.host].takes.remove(asked)
    bench.division.answered(asked, Transient("asked back"), given_back=True)
    assert bench.after(60) == [], "what came back waits for it"
    late = bench.seats["late"]
    late.takes.extend(filter(None, [bench.division.next_for("late")]))
    assert late.takes
    assert bench.after(60) == [], "it has something"


def test_a_host_that_is_much_slower_is_not_given_what_another_has_in_hand() -> None:
    bench = Bench("fast", "slow")
    bench.encoded("fast", 1_000)
    bench.encoded("slow", 100)
    assert bench.after(1) == []
    assert bench.after(60) == []
    bench.encoded("slow", 600)
    assert bench.after(1) == ["fast"]
